import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_overhead.py"


@pytest.mark.slow
@pytest.mark.parametrize("side", ["tfprune", "tfmot"])
def test_it_times_both_models(side):
    flags = ["--steps=8", "--batch=4", "--frequency=2", f"--side={side}"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags], check=True, capture_output=True, text=True
    )
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["dense_ms"] > 0
    assert row["step_q25"] <= row["step"] <= row["step_q75"]
    assert 0.1 < row["total"] < 100
