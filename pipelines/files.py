"""What the flags say of TFLite files, carried out: made, tried on devices, and one recommended."""

import json
import pathlib
from typing import TYPE_CHECKING

from absl import flags, logging

import tfprune
from tfprune.measurement import devices as places
from tfprune.tflite.variants import VARIANTS

from . import run as runs

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import tensorflow as tf

    from tfprune import data

FLAGS = flags.FLAGS


def devices() -> list[places.Device]:
    """Returns the devices that the flags name, each of which answers.

    Raises:
      OSError: if one doesn't.
    """
    options = {
        "benchmark_model": FLAGS.benchmark_model,
        "taskset": FLAGS.taskset,
        "python": FLAGS.ssh_python,
    }
    found = [places.get(spec, **options) for spec in FLAGS.devices]
    for device in found:
        device.check()
    return found


def export(
    run: runs.Run,
    model: "keras.Model",
    folder: str,
    splits: "data.Splits | None",
    *,
    chosen: list[str],
    on: list[places.Device],
    baseline: pathlib.Path | None = None,
    notes: dict[str, object],
) -> "pd.DataFrame":
    """Returns the table of the files in a folder of the run, made now from real samples."""
    from tfprune.tflite.metadata import Metadata

    logging.set_verbosity(logging.INFO)  # a line a file
    described = Metadata(
        name=model.name,
        labels=splits.class_names if splits else (),
        mean=splits.preprocess.mean if splits else (),
        std=splits.preprocess.std if splits else (),
        notes={"tfprune": tfprune.__version__, **notes},
    )
    table = tfprune.export(
        model,
        run.path(folder),
        variants=[*VARIANTS] if "all" in chosen else chosen,
        devices=on,
        baseline=baseline,
        calibration=splits and splits.train_plain,
        evaluation=splits and test_examples(splits),
        device_samples=FLAGS.device_samples,
        described=described,
        threads=FLAGS.threads,
        runs=FLAGS.runs,
    )
    table["file"] = (f"{folder}/" if folder else "") + table["file"]
    return table


def test_examples(splits: "data.Splits") -> "tf.data.Dataset":
    """Returns the test examples on which files are judged."""
    if not FLAGS.verify_samples:
        return splits.test
    return splits.test.unbatch().take(FLAGS.verify_samples).batch(FLAGS.batch_size)


def recommended(table: "pd.DataFrame") -> dict[str, object]:
    """Returns what the record says of the file to ship, or why there is none."""
    from tfprune.tflite.recommend import recommend

    limits = {x: getattr(FLAGS, x) for x in ("max_bytes", "max_latency_ms", "min_top1", "optimize")}
    try:
        best = recommend(table, **limits)
    except ValueError as error:
        return {"file": None, "reason": str(error)}
    keys = ("file", "variant", "device")
    return {
        **{key: best.row[key] for key in keys},
        "reason": best.reason,
        "pareto": best.pareto["variant"].tolist(),
    }


def sparse_inference(run: runs.Run, table: "pd.DataFrame") -> list[dict[str, object]]:
    """Returns whether XNNPACK will run the kernels of the files stored sparse by their zeros."""
    made = table.drop_duplicates("variant").dropna(subset="file")
    rows = []
    for row in made[made["variant"].str.contains("_sparse")].itertuples():
        for target in ("arm64", "x86"):
            found = tfprune.explain_sparse_inference(run.path(row.file), target=target)
            verdict = found.attrs["verdict"]
            rows.append({"variant": row.variant, "target": target, **verdict})
    return rows


def rows(table: "pd.DataFrame") -> list[dict[str, object]]:
    """Returns the table as JSON rows, null where a figure is missing."""
    return json.loads(table.to_json(orient="records", double_precision=15))
