import pathlib
import subprocess
import sys

import pytest

import tfprune

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_oneshot.py"


@pytest.mark.slow
def test_it_judges_each_criterion_at_each_target(tmp_path):
    model = tfprune.zoo.build("digits_cnn", input_shape=(8, 8, 1), classes=10)
    model.save(tmp_path / "model.keras")
    flags = [f"--model={tmp_path / 'model.keras'}", "--dataset=digits", "--preprocess=unit"]
    more = ["--criteria=magnitude,magnitude+least_squares", "--calibration_samples=32"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags, *more, "--seeds=0,1"],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()[-2:]]
    assert [row[0] for row in rows] == ["magnitude", "magnitude+least_squares"]
    for row in rows:
        assert all(0 <= float(cell.split(" ± ")[0]) <= 100 for cell in row[2:4])
