"""The command line of the scan, as a user runs it: in a process of its own."""

import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pipelines import flags
from tests.pipelines.test_prune import ROOT, command, run
from tfprune.planning.recipe import CORRECTIONS

QUICK = ["--train_epochs=1", "--eval_samples=60", "--sparsities=0.5,0.9", "--layer_ms"]


def scan(*args):
    return run(*args, module="sensitivity")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "scan"
    done = scan(f"--output_dir={folder}", *QUICK)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_what_a_scan_leaves(finished):
    folder, out = finished
    assert {path.name for path in folder.iterdir()} == {
        "baseline.keras",
        "flags.txt",
        "logs",
        "record.json",
        "sensitivity.csv",
        "sensitivity.png",
        "sensitivity.svg",
    }
    table = pd.read_csv(folder / "sensitivity.csv")
    assert (table.groupby("layer")["sparsity"].apply(list) == [[0.5, 0.9]] * 5).all()
    assert (table["ms"] > 0).all()
    record = json.loads((folder / "record.json").read_text())
    np.testing.assert_allclose(
        table["top1_change"], table["top1"] - record["dense_top1"], atol=1e-12
    )
    assert [row["layer"] for row in record["sensitivity"]] == list(table["layer"])
    assert all(name.rpartition("/")[0] in out for name in table["layer"])
    assert (folder / "sensitivity.png").stat().st_size > 10_000


def test_a_finished_scan_shows_its_result_again(finished):
    folder, out = finished
    before = (folder / "sensitivity.csv").read_bytes()
    done = scan(f"--output_dir={folder}", *QUICK)
    assert done.stdout.splitlines()[-5:] == out.splitlines()[-5:]
    assert (folder / "sensitivity.csv").read_bytes() == before


@pytest.mark.slow
def test_a_killed_scan_goes_on(finished, tmp_path):
    """Rows that are in the table are taken as they are, and the whole is as without a stop."""
    args = [f"--output_dir={tmp_path}/run", *QUICK]
    with subprocess.Popen(
        command(*args, module="sensitivity"), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("2 of 5"):
                process.send_signal(signal.SIGKILL)
                break
    path = tmp_path / "run/sensitivity.csv"
    rows = len(pd.read_csv(path))
    assert 4 <= rows < 10
    done = scan(*args)
    assert done.returncode == 0, done.stderr
    assert f"{rows} of 10 points are taken from" in done.stdout
    whole, again = (pd.read_csv(x).drop(columns="ms") for x in (finished[0] / path.name, path))
    pd.testing.assert_frame_equal(whole, again, check_exact=True)


@pytest.mark.parametrize("cost", ["target", pytest.param("ms", marks=pytest.mark.slow)])
def test_the_table_drives_an_allocation(cost, finished, tmp_path):
    folder, _ = finished
    done = run(
        f"--output_dir={tmp_path}/cut",
        f"--model={folder}/baseline.keras",
        f"--allocation=sensitivity('{folder}/sensitivity.csv', cost='{cost}')",
        "--target=macs:0.5",
        "--epochs=0",
        "--variants=float32",
        "--baseline_variants=float32",
        "--runs=5",
        "--verify_samples=50",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "cut/record.json").read_text())
    assert record["pruned_nonzero_macs"] / record["base_macs"] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sparsities=0.5,1.5"], "shares above 0"),
        (["--sparsities=half"], "shares above 0"),
        (["--criterion=magnitud"], "Did you mean magnitude"),
        (["--correction=all"], "own|least_squares|merge|none"),
        (["--eval_samples=0"], "positive integer"),
    ],
)
def test_bad_input_is_one_clear_line(words, message, tmp_path):
    done = scan(f"--output_dir={tmp_path}/run", *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run/baseline.keras").exists()


def test_help_is_fast():
    assert set(flags.CORRECTIONS) == set(CORRECTIONS)
    code = (
        "import sys, pipelines.sensitivity; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert "--sparsities" in scan("--help").stdout.replace("--[no]", "--")
