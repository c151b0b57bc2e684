"""Any files side by side."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tflite.files import L, content, keras, samples, sparse
from tfprune.measurement import size
from tfprune.tflite.benchmark import benchmark


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns files of one model and the model, with samples and labels that it mostly meets."""
    keras.utils.set_random_seed(0)
    model = sparse([keras.Input((64,)), L.Dense(128, activation="relu"), L.Dense(10)])
    x = samples(model, 60)
    y = np.asarray(model(x)).argmax(1)
    y[::4] = (y[::4] + 1) % 10
    folder = tmp_path_factory.mktemp("files")
    paths = [folder / f"{name}.tflite" for name in ("float32", "int8", "int8_int_io")]
    for path in paths:
        path.write_bytes(content(model, x, path.stem))
    return paths, model, x, y


def test_accuracy_size_and_errors_are_those_of_the_files(files):
    paths, model, x, y = files
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    table = benchmark(paths, data=data, runs=1)
    assert list(table["status"]) == ["ok"] * 3
    assert list(table["file"]) == [str(path) for path in paths]
    assert table.loc[0, "top1"] == (np.asarray(model(x)).argmax(1) == y).mean() == 0.75
    assert table.loc[0, "max_abs_error"] == 0
    assert 0 < table.loc[1, "relative_error"] < 0.1
    assert table.loc[1, "top1"] == table.loc[2, "top1"]
    assert (table["samples"] == 60).all()
    assert (table["latency_ratio"] > 0).all()
    for path, row in zip(paths, table.itertuples(), strict=True):
        assert row.bytes == path.stat().st_size
        assert row.gzip_bytes == size.file_size(path)["gzip_bytes"]


def test_without_data_there_is_agreement_and_no_accuracy(files):
    table = benchmark(files[0][:2], runs=1)
    assert "top1" not in table
    assert table.loc[1, "top1_agreement"] > 0.8


def test_a_file_that_does_not_run_is_a_row(files, tmp_path):
    paths, *_ = files
    other = tmp_path / "other.tflite"
    model = sparse([keras.Input((8, 2)), L.Conv1D(3, 3)])
    other.write_bytes(content(model, samples(model), "float32"))
    table = benchmark([paths[0], other], runs=1)
    assert list(table["status"]) == ["ok", "failed"]
    assert "[1, 8, 2]" in table.loc[1, "reason"]
    with pytest.raises(ValueError, match=r"other\.tflite.*doesn't run here.*\[1, 8, 2\]"):
        benchmark([other, paths[0]], data=(files[2], files[3]), runs=1)


@pytest.mark.parametrize(
    ("made", "said"),
    [(b"", "is empty"), (b"#!/bin/sh\n" * 9, "no TFLite file"), (None, "damaged or cut short")],
)
def test_no_file_is_said_before_anything_runs(files, tmp_path, made, said):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(files[0][0].read_bytes()[:5000] if made is None else made)
    with pytest.raises(ValueError, match=rf"bad\.tflite.*{said}"):
        benchmark([files[0][0], bad])


def test_integer_inputs_get_integers(tmp_path):
    model = keras.Sequential([keras.Input((5,), dtype="int32"), L.Embedding(2, 3), L.Flatten()])
    file = tmp_path / "ids.tflite"
    file.write_bytes(content(model, np.zeros((3, 5), "int32"), "float32"))
    assert benchmark([file], runs=1).loc[0, "status"] == "ok"


def test_nothing_to_measure_is_said():
    with pytest.raises(ValueError, match="at least one file"):
        benchmark([])
