import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_workers.py"


@pytest.mark.slow
def test_it_prints_a_row_for_each_number_of_workers():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--workers=1,1", "--trials=2"],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines()[-2:]]
    assert [row[0].strip() for row in rows] == ["1", "1"]
    assert all(float(row[1]) > 0 for row in rows)
