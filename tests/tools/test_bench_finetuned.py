import csv
import pathlib
import subprocess
import sys

import pytest

import tfprune

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_finetuned.py"


@pytest.mark.slow
def test_it_judges_each_criterion_and_goes_on_with_what_it_has(tmp_path):
    model = tfprune.zoo.build("digits_cnn", input_shape=(8, 8, 1), classes=10)
    model.save(tmp_path / "model.keras")
    flags = [f"--model={tmp_path / 'model.keras'}", f"--csv={tmp_path / 'found.csv'}"]
    flags += ["--dataset=digits", "--preprocess=unit", "--augment=none", "--targets=macs:0.5"]
    flags += ["--calibration_samples=32", "--steps=3", "--criteria=l1,kmeans+merge"]

    def run(seeds):
        done = subprocess.run(
            [sys.executable, SCRIPT, *flags, f"--seeds={seeds}"],
            check=True,
            capture_output=True,
            text=True,
        )
        return [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]

    run("0")
    first = list(csv.DictReader((tmp_path / "found.csv").open()))
    table = run("0,1")
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert [(r["criterion"], r["seed"]) for r in rows] == [
        (criterion, seed) for seed in "01" for criterion in ("l1", "kmeans+merge")
    ]
    assert rows[:2] == first
    assert len({row["macs"] for row in rows}) <= 2
    assert all(0 <= float(row["top1"]) <= 1 for row in rows)
    assert [line.split("|")[1].strip() for line in table] == ["l1", "kmeans+merge"]
    assert all(" ± " in line for line in table)
