import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_times_the_smaller_network_against_the_dense_one():
    done = subprocess.run(
        [
            *(sys.executable, "tools/bench_channels.py", "--networks=resnet8", "--shares=0.25"),
            *("--round_to=8", "--runs=10", "--variant=int8"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert [row[:3] for row in rows[2:]] == [
        ["resnet8-96", "dense", "1"],
        ["resnet8-96", "0.25", "8"],
    ]
    assert float(rows[2][4]) == float(rows[2][6]) == 1
    assert 3 < float(rows[3][4]) < 5  # theoretical
    assert float(rows[3][5].partition(" ")[0]) > 1  # measured
