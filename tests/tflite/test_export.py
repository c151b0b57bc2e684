"""Exported files load, agree with Keras and are measured; what doesn't leaves no file."""

import contextlib
import os
import pathlib
import re
import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python.convert import mlir_sparsify

from tfprune.measurement import accuracy, devices, entropy, runtime
from tfprune.tflite import convert, metadata
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
    table = export(model, directory, variants=VARIANTS, calibration=x[:50], evaluation=data, runs=5)
    return table, directory


def test_every_variant_is_a_row_and_a_file(exported):
    table, directory = exported
    assert list(table.columns) == list(COLUMNS)
    assert list(table["variant"]) == list(VARIANTS)
    assert list(table["status"]) == ["ok"] * len(VARIANTS)
    assert list(table["device"]) == ["local"] * len(VARIANTS)
    assert not table["emulated"].any()
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
    assert table.loc["float32_sparse", "note"] == "0 of 2 kernels are stored without their zeros"
    assert table.loc["float32", "latency_ratio"] == 1.0
    assert (table["latency_ratio"] > 0).all()
    assert (table["latency_ratio_iqr"].drop("float32") >= 0).all()


def test_types_of_inputs_and_outputs_are_those_of_the_variant(exported):
    _, directory = exported
    kinds = {"float32": np.float32, "int8": np.int8, "uint8": np.uint8, "int16": np.int16}
    for name, variant in VARIANTS.items():
        interpreter = Interpreter(model_path=str(directory / f"{name}.tflite"))
        for tensor in (*interpreter.get_input_details(), *interpreter.get_output_details()):
            assert tensor["dtype"] == kinds[variant.io], name


def test_how_kernels_are_stored_is_told(exported):
    storage = pd.DataFrame(exported[0].attrs["storage"])
    assert set(storage["variant"]) == set(VARIANTS)
    assert not storage["sparse"].any()
    assert storage["reason"].astype(bool).all()


def test_float_errors_are_those_of_litert(exported, cnn):
    table, directory = exported
    model, x, _ = cnn
    found = runtime.run(directory / "int8.tflite", x, runs=1, min_seconds=0)["outputs"][0]
    error = np.abs(found - np.asarray(model(x)))
    row = table.set_index("variant").loc["int8"]
    assert row["max_abs_error"] == pytest.approx(error.max(), rel=1e-4)
    assert row["mean_abs_error"] == pytest.approx(error.mean(), rel=1e-4)


def test_a_file_of_nans_is_caught_and_leaves_nothing(tmp_path, monkeypatch):
    """float16 with zeros in 1x4 blocks along the input makes LiteRT's sparse Dense return NaN."""
    kernel = RNG.normal(size=(64, 32)).astype("float32")
    blocks = RNG.random((16, 1, 32)) < 0.2
    kernel *= np.broadcast_to(blocks, (16, 4, 32)).reshape(64, 32)
    x = RNG.normal(size=(40, 64)).astype("float32")
    stale = tmp_path / "float16_sparse.tflite"
    stale.write_bytes(b"of an earlier export")
    names = ["float32_sparse", "float16_sparse"]
    with sparsified_by_tensorflow(monkeypatch):
        table = export(dense(kernel), tmp_path, calibration=x, variants=names).set_index("variant")
    assert table.loc["float16_sparse", "status"] == "failed"
    assert "NaN" in table.loc["float16_sparse", "reason"]
    assert table.loc["float32_sparse", "status"] == "ok"
    assert table.loc["float32_sparse", "sparse_tensors"] == 1
    assert files(tmp_path) == ["float32_sparse.tflite"]
    # what it was for: this encoder's files are right
    table = export(dense(kernel), tmp_path, calibration=x, variants=names)
    assert list(table["status"]) == ["ok", "ok"]
    assert list(table["sparse_tensors"]) == [1, 1]


@contextlib.contextmanager
def sparsified_by_tensorflow(monkeypatch):
    """Makes files as the converter's Optimize.EXPERIMENTAL_SPARSITY does."""

    original = convert.convert

    def made(module, variant, calibration=None):
        found = original(module, variant._replace(sparse=False), calibration)
        return mlir_sparsify(found) if variant.sparse else found

    with monkeypatch.context() as patch:
        patch.setattr(convert, "convert", made)
        yield


def test_a_file_that_does_not_load_fails_with_litert_s_words(tmp_path, monkeypatch):
    """As TensorFlow stores dynamic int8 sparse."""
    kernel = RNG.normal(size=(64, 64)) * (RNG.random((64, 64)) < 0.2)
    x = RNG.normal(size=(40, 64)).astype("float32")
    with sparsified_by_tensorflow(monkeypatch):
        table = export(dense(kernel), tmp_path, calibration=x, variants=["dynamic_int8_sparse"])
    assert table.loc[0, "status"] == "failed"
    assert "FULLY_CONNECTED" in table.loc[0, "reason"]


def test_silently_wrong_values_are_caught(tmp_path, monkeypatch):
    """Dynamic int8 with zeros in 1x16 blocks loads, then returns other values or crashes."""
    blocks = RNG.random((8, 1, 64)) < 0.2
    kernel = RNG.normal(size=(128, 64)) * np.broadcast_to(blocks, (8, 16, 64)).reshape(128, 64)
    x = RNG.normal(size=(40, 128)).astype("float32")
    with sparsified_by_tensorflow(monkeypatch):
        table = export(dense(kernel), tmp_path, calibration=x, variants=["dynamic_int8_sparse"])
    assert table.loc[0, "status"] == "failed"
    assert re.search("disagrees with Keras|NaN|crashed", table.loc[0, "reason"])
    assert files(tmp_path) == []


class Elsewhere:
    """A device that answers as this machine does, and may be told otherwise."""

    name, emulated, samples = "elsewhere", False, 7

    def __init__(self, *, away=False, error=None):
        self.away, self.error = away, error

    def check(self):
        if self.away:
            raise OSError("elsewhere is away: switch it on")

    def answer(self, folder, *, timeout):
        if self.error:
            raise self.error
        devices.get("local").answer(folder, timeout=timeout)


def test_each_device_has_a_row_and_its_samples(cnn, tmp_path):
    table = export(
        cnn[0],
        tmp_path,
        devices=["local", Elsewhere()],
        evaluation=cnn[1:],
        variants=["float32", "float16"],
        runs=1,
    )
    assert list(table["device"]) == ["local", "elsewhere"] * 2
    assert list(table["samples"]) == [150, 7] * 2
    assert list(table["status"]) == ["ok"] * 4
    model, x, y = cnn
    hits = np.asarray(model(x[:7])).argmax(1) == y[:7]
    assert table.loc[1, "top1"] == hits.mean()


def test_a_file_that_fails_on_one_device_is_not_shipped(cnn, tmp_path):
    broken = Elsewhere(error=devices.Failed("the runtime crashed: killed by SIGSEGV"))
    table = export(
        cnn[0], tmp_path, devices=["local", broken], evaluation=cnn[1:], variants=["float32"]
    )
    assert list(table["status"]) == ["failed", "failed"]
    assert table.loc[0, "reason"] == "works here, but fails on elsewhere"
    assert "SIGSEGV" in table.loc[1, "reason"]
    assert files(tmp_path) == []


def test_a_device_that_is_lost_on_the_way_costs_no_file(cnn, tmp_path):
    lost = Elsewhere(error=OSError("elsewhere closed the connection"))
    table = export(
        cnn[0], tmp_path, devices=["local", lost], evaluation=cnn[1:], variants=["float32"]
    )
    assert list(table["status"]) == ["ok", "away"]
    assert "closed the connection" in table.loc[1, "reason"]
    assert files(tmp_path) == ["float32.tflite"]


def test_a_device_that_is_away_is_said_first(cnn, tmp_path):
    with pytest.raises(OSError, match="switch it on"):
        export(cnn[0], tmp_path / "out", devices=[Elsewhere(away=True)])
    assert not (tmp_path / "out").exists()


def test_labels_and_notes_are_in_every_file(cnn, tmp_path):
    about = metadata.Metadata(labels=[str(i) for i in range(10)], notes={"target": "sparsity:0.8"})
    export(cnn[0], tmp_path, variants=["float32", "float16"], described=about, runs=1)
    for name in ("float32", "float16"):
        assert metadata.notes(tmp_path / f"{name}.tflite") == {"target": "sparsity:0.8"}
        assert zipfile.ZipFile(tmp_path / f"{name}.tflite").namelist() == ["labels.txt"]
    with pytest.raises(ValueError, match="9 labels for 10 classes"):
        export(cnn[0], tmp_path, described=metadata.Metadata(labels=["x"] * 9))


def test_a_crash_of_the_runtime_is_a_failed_row(cnn, tmp_path, monkeypatch):
    script = tmp_path / "fake.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(devices, "WORKER", script)
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


def test_calibration_of_another_size_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), L.GlobalAveragePooling1D(), L.Dense(2)])
    x = np.ones((9, 6, 4), "float32")
    with pytest.raises(ValueError, match=r"calibration= have shape \(5, 4\), those of eval"):
        export(model, tmp_path, calibration=x[:, :5], evaluation=(x,))
