import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_bandit.py"


@pytest.mark.slow
def test_it_times_both_and_compares_their_scores():
    flags = ["--model=digits_cnn", "--dataset=digits", "--preprocess=unit"]
    more = ["--calibration_samples=32", "--granularities=filter", "--policies=ucb1", "--batch=8"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags, *more], check=True, capture_output=True, text=True
    )
    *words, pulls, oracle, bandit, ratio, processor, inside, overall = (
        cell.strip() for cell in done.stdout.splitlines()[-1].split("|")[1:-1]
    )
    assert words[1:] == ["filter", "ucb1"]
    assert pulls == "2 x 8"
    assert abs(float(oracle) / float(bandit) - float(ratio)) < 0.1 * float(ratio) + 0.1
    assert float(processor) > 0
    # All of them are among the 24 draws with more loss: far from noise even on so little data.
    assert 0.3 < float(inside) <= 1
    assert 0.3 < float(overall) <= 1
