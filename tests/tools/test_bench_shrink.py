import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_shrink.py"


@pytest.mark.slow
def test_it_times_and_weighs_what_it_shrinks():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--networks=MobileNet", "--size=32"],
        check=True,
        capture_output=True,
        text=True,
    )
    name, *figures = (cell.strip() for cell in done.stdout.splitlines()[-1].split("|")[1:-1])
    build, shrink, clone, beyond, memory = map(float, figures)
    assert name == "MobileNet"
    assert min(build, shrink, clone) > 0
    assert abs(shrink - clone - beyond) < 0.11
    assert 0 <= memory < 10
