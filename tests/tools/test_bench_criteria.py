import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_criteria.py"


@pytest.mark.slow
def test_it_relates_scoring_to_passes_over_the_data():
    flags = ["--networks=lenet5", "--size=28", "--samples=16,64", "--criteria=grad,wanda"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags], check=True, capture_output=True, text=True
    )
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()[-2:]]
    assert [row[:2] for row in rows] == [["lenet5-28", "grad"], ["lenet5-28", "wanda"]]
    assert all(float(row[2]) <= float(row[3]) for row in rows)  # one pass is less than both
    assert all(float(cell) >= 0 for row in rows for cell in row[2:])
