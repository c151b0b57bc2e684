"""Export and measurement as commands, as a user runs them."""

import json

import keras
import numpy as np
import pandas as pd
import pytest

from tests.pipelines.test_prune import run, together
from tests.tflite.files import L, sparse
from tfprune.tflite import metadata


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns a model's file and a data set's."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), L.Conv2D(16, 3, activation="relu"), L.Conv2D(48, 1)]
    model = sparse([*layers, L.GlobalAveragePooling2D(), L.Dense(4, activation="softmax")])
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (120, 8, 8, 3)).astype("uint8")
    bias = model.layers[-1].bias
    bias.assign(bias - np.log(model(x / 255.0)).mean(0))  # so that all classes occur
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder / "mine.keras")
    y = np.asarray(model(x / 255.0)).argmax(1)
    np.savez(folder / "mine.npz", x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    return folder


@pytest.fixture(scope="module")
def exported(saved):
    out = saved / "out"
    done = run(
        f"--output_dir={out}",
        f"--model={saved}/mine.keras",
        f"--dataset={saved}/mine.npz",
        "--variants=float32,float32_sparse,int8_sparse,int8_weights_sparse",
        "--optimize=bytes",
        "--min_top1=0.5",
        "--runs=2",
        module="export",
    )
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_what_an_export_leaves(exported):
    out, said = exported
    record = json.loads((out / "record.json").read_text())
    table = pd.read_csv(out / "table.csv")
    assert [row["variant"] for row in record["tflite"]] == list(table["variant"])
    assert set(table["status"]) == {"ok"}
    for row in record["tflite"]:
        assert (out / row["file"]).stat().st_size == row["bytes"]
    assert table.set_index("variant").loc["float32", "top1"] == 1.0
    smallest = record["recommended"]["file"]
    assert (out / smallest).stat().st_size == table["bytes"].min()
    assert f"Ship {smallest}, the fewest bytes" in said
    assert smallest.removesuffix(".tflite") in record["recommended"]["pareto"]
    assert f"no file beats: {', '.join(record['recommended']['pareto'])}" in " ".join(said.split())
    storage = pd.read_csv(out / "storage.csv").set_index("variant")
    assert storage.loc["float32_sparse", "sparse"].any()
    assert not storage.loc["float32", "sparse"].any()
    assert "Sparse inference on arm64 is off" in said
    notes = metadata.notes(out / smallest)
    assert notes["params"] == record["base_params"]
    page = (out / "report.html").read_text()
    assert "int8_weights_sparse" in page
    assert "Kernels with their zeros" in page


def test_files_are_measured_side_by_side(exported):
    out, _ = exported
    folder = out.parent / "measured"
    done = run(
        f"--files={out}/float32.tflite,{out}/int8_sparse.tflite",
        f"--dataset={out.parent}/mine.npz",
        f"--output_dir={folder}",
        "--runs=2",
        module="measure",
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(folder / "measure.csv")
    assert list(table["status"]) == ["ok", "ok"]
    assert table.loc[0, "top1"] == 1.0
    assert "int8_sparse.tflite" in done.stdout


def test_without_data_random_samples_serve(saved, tmp_path):
    (done,) = together(
        [
            f"--output_dir={tmp_path}/out",
            f"--model={saved}/mine.keras",
            "--variants=float32,int8",
            "--runs=2",
        ],
        module="export",
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out/record.json").read_text())["tflite"]
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert "random samples" in rows[0]["note"]
    assert "calibration=" in rows[1]["reason"]


def test_wrong_words_of_export_are_said(saved, tmp_path):
    model = f"--model={saved}/mine.keras"
    cases = [
        ([model, "--devices=arm46"], "Did you mean arm64"),
        ([model, "--devices=local:here"], "takes no address"),
        ([model, "--devices=adb:"], "benchmark_model"),
        ([model, "--devices=ssh:-oProxyCommand=x"], "ssh"),
        ([f"--model={tmp_path}/none.keras"], "none.keras"),
    ]
    done = together(
        *([f"--output_dir={tmp_path}/{i}", *words] for i, (words, _) in enumerate(cases)),
        module="export",
    )
    for end, (words, said) in zip(done, cases, strict=True):
        assert end.returncode == 1, words
        assert said in end.stderr, words
        assert "Traceback" not in end.stderr


def test_wrong_words_of_measure_are_said(exported, tmp_path):
    good = exported[0] / "float32.tflite"
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(good.read_bytes()[:900])
    cases = [
        (f"--files={tmp_path}/none.tflite", "none.tflite"),
        (f"--files={cut}", "damaged or cut short"),
        (f"--files={good},{exported[0]}/table.csv", "no TFLite file"),
    ]
    for end, (_, said) in zip(
        together(*([words] for words, _ in cases), module="measure"), cases, strict=True
    ):
        assert end.returncode == 1
        assert said in end.stderr
        assert "Traceback" not in end.stderr
