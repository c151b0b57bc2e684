"""Exported files load, agree with Keras and are measured; what doesn't leaves no file."""

import os
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.measurement import accuracy, entropy, runtime
from tfprune.tflite import convert
from tfprune.tflite.export import COLUMNS, export
from tfprune.tflite.variants import VARIANTS

L = keras.layers
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cnn():
    """Returns a small CNN with labels that its own outputs mostly meet."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            L.Conv2D(8, 3, strides=2),
            L.BatchNormalization(),
            L.ReLU(),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    x = RNG.normal(size=(150, 12, 12, 3)).astype("float32")
    y = np.asarray(model(x)).argmax(1)
    y[::5] = (y[::5] + 1) % 10
    return model, x, y


def dense(kernel, units=()):
    """Returns a Dense net whose first kernel is `kernel`."""
    widths = [kernel.shape[1], *units]
    model = keras.Sequential([keras.Input((kernel.shape[0],)), *[L.Dense(n) for n in widths]])
    model.layers[0].set_weights([kernel, np.zeros(kernel.shape[1])])
    return model


def files(directory):
    return sorted(path.name for path in pathlib.Path(directory).iterdir())


@pytest.fixture(scope="module")
def exported(cnn, tmp_path_factory):
    model, x, y = cnn
    directory = tmp_path_factory.mktemp("out") / "made" / "on the way"
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)
    return export(model, directory, calibration=x[:50], evaluation=data, runs=5), directory


def test_every_variant_is_a_row_and_a_file(exported):
    table, directory = exported
    assert list(table.columns) == list(COLUMNS)
    assert list(table["variant"]) == list(VARIANTS)
    assert list(table["status"]) == ["ok"] * 6
    assert files(directory) == sorted(table["file"])


def test_figures_are_those_of_the_files(exported, cnn):
    table, directory = exported
    model, x, y = cnn
    judged = accuracy.evaluate(model, (x, y))
    assert table.attrs["keras"]["top1"] == judged["top1"] == 0.8
    table = table.set_index("variant")
    for name, row in table.iterrows():
        assert row["bytes"] == (directory / row["file"]).stat().st_size, name
        assert 0 < row["gzip_bytes"] < row["bytes"] + 100
        coded = entropy.of_file(directory / row["file"])
        assert (row["entropy_bytes"], row["huffman_bytes"]) == coded
        assert coded.entropy_bytes <= coded.huffman_bytes < row["bytes"]
        assert row["samples"] == 150
        assert row["runs"] >= 5
        assert row["latency_ms_median"] > 0
    assert table.loc["float32", "top1"] == judged["top1"]
    assert table.loc["float32", "top5"] == judged["top5"]
    assert table.loc["float32", "top1_agreement"] == 1.0
    assert table.loc["float32", "max_abs_error"] < 1e-6
    assert table.loc["float16", "relative_error"] > table.loc["float32", "relative_error"]
    assert table.loc["float16", "bytes"] < 0.7 * table.loc["float32", "bytes"]
    assert table.loc["int8", "bytes"] < 0.5 * table.loc["float32", "bytes"]
    assert "30 % zeros" in table.loc["float32_sparse", "note"]


def test_float_errors_are_those_of_litert(exported, cnn):
    table, directory = exported
    model, x, _ = cnn
    found = runtime.run(directory / "int8.tflite", x, runs=1, min_seconds=0)["outputs"][0]
    error = np.abs(found - np.asarray(model(x)))
    row = table.set_index("variant").loc["int8"]
    assert row["max_abs_error"] == pytest.approx(error.max(), rel=1e-4)
    assert row["mean_abs_error"] == pytest.approx(error.mean(), rel=1e-4)


def test_a_file_of_nans_is_caught_and_leaves_nothing(tmp_path):
    """float16 with zeros in 1x4 blocks along the input makes LiteRT's sparse Dense return NaN."""
    kernel = RNG.normal(size=(64, 32)).astype("float32")
    blocks = RNG.random((16, 1, 32)) < 0.2
    kernel *= np.broadcast_to(blocks, (16, 4, 32)).reshape(64, 32)
    x = RNG.normal(size=(40, 64)).astype("float32")
    stale = tmp_path / "float16_sparse.tflite"
    stale.write_bytes(b"of an earlier export")
    names = ["float32_sparse", "float16_sparse"]
    table = export(dense(kernel), tmp_path, calibration=x, variants=names).set_index("variant")
    assert table.loc["float16_sparse", "status"] == "failed"
    assert "NaN" in table.loc["float16_sparse", "reason"]
    assert table.loc["float32_sparse", "status"] == "ok"
    assert table.loc["float32_sparse", "sparse_tensors"] == 1
    assert files(tmp_path) == ["float32_sparse.tflite"]


def sparse_bytes(model, x, variant):
    return convert.convert(convert.trace(model, x), VARIANTS[variant]._replace(sparse=True), [x])


def test_dynamic_int8_stored_sparse_does_not_load(tmp_path):
    """Why there is no such variant; and a file that doesn't load fails with LiteRT's words."""
    kernel = RNG.normal(size=(64, 64)) * (RNG.random((64, 64)) < 0.2)
    x = RNG.normal(size=(40, 64)).astype("float32")
    file = tmp_path / "file.tflite"
    file.write_bytes(sparse_bytes(dense(kernel), x, "dynamic_int8"))
    result = runtime.run(file, x)
    assert result["status"] == "failed"
    assert "FULLY_CONNECTED" in result["reason"]


def test_silently_wrong_values_are_caught(tmp_path, monkeypatch):
    """Dynamic int8 with zeros in 1x16 blocks loads, then returns other values or crashes."""
    blocks = RNG.random((8, 1, 64)) < 0.2
    kernel = RNG.normal(size=(128, 64)) * np.broadcast_to(blocks, (8, 16, 64)).reshape(128, 64)
    x = RNG.normal(size=(40, 128)).astype("float32")
    variant = VARIANTS["dynamic_int8"]._replace(sparse=True)
    monkeypatch.setitem(VARIANTS, "dynamic_int8_sparse", variant)
    table = export(dense(kernel), tmp_path, calibration=x, variants=["dynamic_int8_sparse"])
    assert table.loc[0, "status"] == "failed"
    assert re.search("disagrees with Keras|NaN|crashed", table.loc[0, "reason"])
    assert files(tmp_path) == []


def test_a_crash_of_the_runtime_is_a_failed_row(cnn, tmp_path, monkeypatch):
    script = tmp_path / "fake.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(runtime, "WORKER", script)
    out = tmp_path / "out"
    table = export(cnn[0], out, evaluation=cnn[1:], variants=["float32"])
    assert table.loc[0, "status"] == "failed"
    assert "SIGKILL" in table.loc[0, "reason"]
    assert files(out) == []


def test_int8_needs_calibration_and_random_samples_are_noted(cnn, tmp_path):
    table = export(cnn[0], tmp_path, variants=["float32", "int8"]).set_index("variant")
    assert table.loc["int8", "status"] == "failed"
    assert "calibration=" in table.loc["int8", "reason"]
    assert "random samples" in table.loc["float32", "note"]
    assert np.isnan(table.loc["float32", "top1"])
    assert table.loc["float32", "top1_agreement"] == 1.0
    assert files(tmp_path) == ["float32.tflite"]


def test_the_model_stays_as_it_was(cnn, tmp_path):
    model = cnn[0]
    weights, config = [w.copy() for w in model.get_weights()], model.to_json()
    export(model, tmp_path, variants=["float32"])
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.to_json() == config


def test_an_unknown_variant_lists_the_near_ones(cnn, tmp_path):
    with pytest.raises(ValueError, match=r"Did you mean .*float16"):
        export(cnn[0], tmp_path, variants=["flot16"])


def test_outputs_of_keras_that_are_nan_are_refused(tmp_path):
    model = dense(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        export(model, tmp_path, calibration=np.ones((5, 4), "float32"))


def test_a_fixed_batch_size_is_refused(tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=(8, 4)), L.Dense(2)])
    with pytest.raises(ValueError, match="fixed batch size of 8"):
        export(model, tmp_path, calibration=np.ones((8, 4), "float32"))


def test_an_open_input_size_needs_samples(tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), L.GlobalAveragePooling1D(), L.Dense(2)])
    with pytest.raises(ValueError, match="pass evaluation="):
        export(model, tmp_path)
    table = export(model, tmp_path, calibration=np.ones((9, 6, 4), "float32"), variants=["float32"])
    assert table.loc[0, "status"] == "ok"


def test_a_directory_that_is_a_file_is_named(cnn, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    with pytest.raises(OSError, match="blocked"):
        export(cnn[0], blocked)


def test_a_full_disk_is_an_error_that_names_the_directory(cnn, tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match=rf"{tmp_path.name}.*No space left"):
        export(cnn[0], tmp_path, variants=["float32"])
    assert os.listdir(tmp_path) == []
