import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_clustering.py"


@pytest.mark.slow
def test_it_times_every_clustering_criterion():
    flags = ["--filters=16", "--samples=8", "--size=4", "--runs=1"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags], check=True, capture_output=True, text=True
    )
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()[4:]]
    names = [row[0] for row in rows]
    assert names[0] == "l2"
    assert {"fpgm", "kmeans", "agglomerative", "cup", "spectral", "dbscan", "hdbscan"} < {*names}
    assert all(0 <= float(row[1]) <= float(row[2]) for row in rows)
