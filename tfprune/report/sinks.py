"""Trials handed on to other tools: TensorBoard's HParams dashboard, and MLflow.

A trial that finished is one run there. It is known by its run_id, so that handing on the same table
again adds only what is new.
"""

import hashlib
import math
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tfprune.evaluation import summary
from tfprune.report import formats

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

_SETTINGS = ("method", "criterion", "allocation", "granularity", "axis", "point", "seed", "control")
_SETTINGS += ("replays", "dataset", "model", "protocol", "epochs", "batch_size", "optimizer")
_SETTINGS += ("learning_rate", "augment")
_TAG = "tfprune.run_id"
_PAGE = 1000


class _Run(NamedTuple):
    """A trial as such tools have it."""

    id: str
    pair: str
    settings: dict[str, str | float | bool]
    metrics: dict[str, float]


def tensorboard(table: "pd.DataFrame", folder: str | os.PathLike) -> int:
    """Writes a run for each trial that finished, for `tensorboard --logdir`.

    Args:
      table: as `tfprune.evaluation.records.load` has it.
      folder: gets a directory for each run, which appears whole or not at all.

    Returns:
      How many runs were added.

    Raises:
      OSError: if it can't be written.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    folder, added = pathlib.Path(folder), 0
    folder.mkdir(parents=True, exist_ok=True)
    for run in _runs(table):
        # The id is a stranger's: it must not name another place.
        plain = re.fullmatch(r"\w{1,64}", run.id, re.ASCII)
        target = folder / (run.id if plain else hashlib.sha256(run.id.encode()).hexdigest()[:12])
        if target.exists():
            continue
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            made = pathlib.Path(partial, "run")
            with tf.summary.create_file_writer(str(made)).as_default():
                api.hparams({"pair": run.pair, **run.settings}, trial_id=run.id)
                for name, value in run.metrics.items():
                    tf.summary.scalar(name, value, step=0)
            made.rename(target)
        added += 1
    return added


def mlflow(table: "pd.DataFrame", uri: str) -> int:
    """Logs each trial that finished as a run, in an experiment named after its pair.

    Args:
      table: as `tfprune.evaluation.records.load` has it.
      uri: of the tracking store: "http://host:5000", "sqlite:///mlflow.db".

    Returns:
      How many runs were added.

    Raises:
      ValueError: if MLflow isn't installed, or refuses.
    """
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise ValueError(
            f"MLflow can't be imported ({error}): pip install mlflow-skinny sqlalchemy alembic"
        ) from error
    try:
        client = MlflowClient(tracking_uri=uri)
        known: dict[str, tuple[str, set[str]]] = {}
        added = 0
        for run in _runs(table):
            if run.pair not in known:
                known[run.pair] = _experiment(client, run.pair)
            experiment, there = known[run.pair]
            if run.id not in there:
                _log(client, experiment, run)
                added += 1
        return added
    except MlflowException as error:
        raise ValueError(f"MLflow at {uri}: {error}") from error


def _experiment(client: "MlflowClient", name: str) -> tuple[str, set[str]]:
    """Returns the id of an experiment, made if need be, and which trials it has."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name), set()
    there, token = set(), None
    while True:
        page = client.search_runs([found.experiment_id], max_results=_PAGE, page_token=token)
        there |= {run.data.tags.get(_TAG) for run in page}
        token = page.token
        if not token:
            return found.experiment_id, there


def _log(client: "MlflowClient", experiment: str, run: _Run) -> None:
    from mlflow.entities import Metric, Param

    made = client.create_run(experiment, run_name=run.settings.get("method")).info
    params = [Param(name, str(value)) for name, value in run.settings.items()]
    # Names of TFLite variants are a stranger's, and MLflow takes some characters only.
    metrics = [
        Metric(re.sub(r"[^\w ./-]", "_", name), value, made.start_time, 0)
        for name, value in run.metrics.items()
    ]
    client.log_batch(made.run_id, metrics=metrics, params=params)
    client.set_terminated(made.run_id)
    # Last: only what is whole counts as there.
    client.set_tag(made.run_id, _TAG, run.id)


def _runs(table: "pd.DataFrame") -> Iterator[_Run]:
    """Yields the trials that finished."""
    metrics = summary.metrics(table)
    for row in table[table["status"].eq("ok")].to_dict("records"):
        settings = {key: _plain(row[key]) for key in _SETTINGS}
        yield _Run(
            formats.plain(row["run_id"]),
            formats.plain(row["pair"]),
            {key: value for key, value in settings.items() if value is not None},
            {name: float(row[name]) for name in metrics if math.isfinite(row[name])},
        )


def _plain(value: object) -> str | float | bool | None:
    """Returns a value as these tools take it, None if there is none."""
    if isinstance(value, str):
        return formats.elide(formats.plain(value), 250)
    if isinstance(value, bool):
        return value
    return formats.number(value)
