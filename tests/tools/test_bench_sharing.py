import pathlib
import subprocess
import sys

import pytest

from tfprune import schedules

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_sharing.py"


@pytest.mark.slow
def test_it_weighs_both_sides_files_of_the_same_pruned_weights(tmp_path):
    schedules.tfmot_schedules()
    import tf_keras

    layers = [
        tf_keras.layers.Conv2D(16, 3, activation="relu", input_shape=(8, 8, 1)),
        tf_keras.layers.Flatten(),
        tf_keras.layers.Dense(10, activation="softmax"),
    ]
    tf_keras.Sequential(layers).save(tmp_path / "model.h5")
    flags = [f"--model={tmp_path / 'model.h5'}", "--dataset=digits", "--preprocess=unit"]
    more = ["--augment=none", "--sparsity=0.5", "--clusters=8", "--learning_rate=0.01"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags, *more], check=True, capture_output=True, text=True
    )
    rows = {}
    for line in done.stdout.splitlines():
        if line.startswith("| ") and "gzip" not in line:
            what, kind, *figures = (cell.strip() for cell in line.split("|")[1:-1])
            rows[what, kind] = [float(figure.replace(",", "")) for figure in figures]
    assert len(rows) == 14
    for packed, huffman, entropy, ratio, weights, top1 in rows.values():
        assert huffman >= entropy
        assert ratio == pytest.approx(packed / entropy, abs=0.01)
        assert weights > 0
        assert 0 <= top1 <= 100
    for kind in ("float32", "int8"):
        assert rows["clustered", kind][0] < rows["pruned", kind][0] < rows["dense", kind][0]
        mine, theirs = rows["pruned", kind], rows["pruned, in tf-keras", kind]
        assert mine[4] == theirs[4]
        assert mine[5] == pytest.approx(theirs[5], abs=1)
    assert rows["clustered, fine-tuned", "float32"][5] > 30
