import os
import re
import sys

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from tests.report import trials
from tfprune.evaluation import records
from tfprune.report import sinks

METRICS = ("pruned_top1", "compression_ratio", "theoretical_speedup", "entropy_bytes")


@pytest.fixture
def every():
    return [
        trials.trial(seed=seed, method=method) for seed in (0, 1) for method in ("dense", "tfmot")
    ] + [trials.trial(dataset="mnist")]


@pytest.fixture
def table(tmp_path, every):
    trials.write(tmp_path / "bench", [*every, trials.failed(point=32)])
    return records.load(tmp_path / "bench")


def accumulated(folder):
    found = event_accumulator.EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_reads_what_was_written(tmp_path, every, table):
    folder = tmp_path / "logs"
    assert sinks.tensorboard(table, folder) == len(every)
    assert set(os.listdir(folder)) == {record["run_id"] for record in every}
    for record in every:
        run = accumulated(folder / record["run_id"])
        for name in METRICS:
            (event,) = run.Tensors(name)
            assert tensor_util.make_ndarray(event.tensor_proto) == pytest.approx(record[name])
        (event,) = run.Tensors("int8_gzip_bytes")
        gzip_bytes = record["tflite"][1]["gzip_bytes"]
        assert tensor_util.make_ndarray(event.tensor_proto) == pytest.approx(gzip_bytes)
        content = run.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        said = metadata.parse_session_start_info_plugin_data(content)
        settings = {key: getattr(x, x.WhichOneof("kind")) for key, x in said.hparams.items()}
        for name in ("method", "point", "seed", "control", "dataset", "learning_rate", "axis"):
            assert settings[name] == record[name]
        assert settings["pair"] == f"{record['model']} on {record['dataset']}"
        assert "replays" not in settings  # there is none


def test_a_second_call_adds_only_what_is_new(tmp_path, every, table):
    folder = tmp_path / "logs"
    assert sinks.tensorboard(table[:2], folder) == 2
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("events*")}
    assert sinks.tensorboard(table, folder) == len(every) - 2
    assert sinks.tensorboard(table, folder) == 0
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("events*")}
    assert len(after) == len(every)
    assert before.items() <= after.items()


def test_a_run_that_is_cut_short_is_not_there(tmp_path, table, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tf.summary, "scalar", stop)
        sinks.tensorboard(table, tmp_path / "logs")
    assert not os.listdir(tmp_path / "logs")


def test_a_strangers_run_id_names_no_other_place(tmp_path, table):
    table = table[:2].assign(run_id=["../../escaped", "a" * 300], method="\x1b[31m\u202e")
    assert sinks.tensorboard(table, tmp_path / "logs") == 2
    names = os.listdir(tmp_path / "logs")
    assert all(re.fullmatch(r"[0-9a-f]{12}", name) for name in names)
    assert set(os.listdir(tmp_path)) == {"bench", "logs"}


def test_mlflow_that_is_not_there_is_said(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
    with pytest.raises(ValueError, match="pip install mlflow-skinny"):
        sinks.mlflow(table, "sqlite:///x.db")


def test_mlflow_has_a_run_for_each_trial(tmp_path, every, table, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("alembic")
    monkeypatch.chdir(tmp_path)  # artifacts, if there were any
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert sinks.mlflow(table[:2], uri) == 2
    assert sinks.mlflow(table, uri) == len(every) - 2
    assert sinks.mlflow(table, uri) == 0
    client = tracking.MlflowClient(tracking_uri=uri)
    found = {}
    for dataset, count in (("cifar10", 4), ("mnist", 1)):
        experiment = client.get_experiment_by_name(f"resnet8 on {dataset}")
        runs = client.search_runs([experiment.experiment_id])
        assert len(runs) == count
        found |= {run.data.tags["tfprune.run_id"]: run for run in runs}
    for record in every:
        run = found[record["run_id"]]
        assert run.info.status == "FINISHED"
        for name in METRICS:
            assert run.data.metrics[name] == pytest.approx(record[name])
        for name in ("method", "point", "seed", "optimizer"):
            assert run.data.params[name] == str(record[name])
    # Names that MLflow wouldn't take, and its refusals.
    odd = table[:1].assign(run_id="odd")
    odd["a'b<c>_gzip_bytes"] = 1.0
    assert sinks.mlflow(odd, uri) == 1
    with pytest.raises(ValueError, match="MLflow at nonsense://x"):
        sinks.mlflow(table, "nonsense://x")
