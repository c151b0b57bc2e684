"""A grid as a user runs it: stopped, killed, gone on with, and reported."""

import os
import signal
import subprocess

import pytest

import tfprune.report
from tests.pipelines.test_prune import ROOT, command, run, together

# Two pairs, four methods, three points, two seeds, and the dense control of each.
SMOKE = [
    "--pairs=digits_cnn@digits,lenet_300_100@digits",
    "--methods=magnitude/global,magnitude/uniform,grad/global",
    "--controls=dense,random",
    "--points=2,8,32",
    "--seeds=0,1",
    "--train_epochs=2",
    "--epochs=0.2",
    "--calibration_samples=64",
    "--variants=",
    "--workers=2",
]
TRIALS = 2 * 2 * (4 * 3 + 1)


def stopped(folder, *, after, by):
    """Runs the benchmark until so many trials have ended; returns its exit code and the rest."""
    # What runs in the background may have been told to ignore ctrl-C, and would hand that down.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command(f"--output_dir={folder}", *SMOKE, module="benchmark"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # ctrl-C reaches the whole group, as on a terminal
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        signal.signal(signal.SIGINT, before)
        ended = 0
        for line in process.stdout:
            ended += f" of {TRIALS}: " in line
            if ended == after:
                break
        if by == signal.SIGINT:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
        rest = process.stdout.read()  # ends only when all its processes have
    return process.returncode, rest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The directory of a benchmark that was stopped twice, damaged, and gone on with."""
    folder = tmp_path_factory.mktemp("bench")
    code, rest = stopped(folder, after=3, by=signal.SIGINT)
    assert code == 130, rest
    assert "interrupted: the same command goes on where it stopped" in rest
    assert "Traceback" not in rest
    done = sorted((folder / "runs").glob("*/record.json"))
    assert 3 <= len(done) < TRIALS
    times = {path: path.stat().st_mtime_ns for path in done}
    stopped(folder, after=3, by=signal.SIGKILL)
    assert {path: path.stat().st_mtime_ns for path in done} == times
    done[0].write_text('{"schema": 1,')
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    done = run(f"--output_dir={folder}", *SMOKE, module="benchmark")
    assert done.returncode == 0, done.stderr
    return done


def test_a_grid_goes_on_to_its_end(folder, finished):
    table = tfprune.report.load(folder)
    assert len(table) == TRIALS
    assert (table["status"] == "ok").all()
    assert table.groupby(["pair", "method", "point"])["seed"].nunique().eq(2).all()
    assert table.groupby("pair")["starting_weights_sha256"].nunique().eq(1).all()
    pruned = table[table["method"] != "dense"]
    assert ((pruned["compression_ratio"] / pruned["point"] - 1).abs() < 0.05).all()
    assert "set aside and run again" in finished.stdout
    assert len(list((folder / "set_aside").iterdir())) == 1


def test_it_ends_with_a_report(folder, finished):
    assert (folder / "report" / "report.html").exists()
    assert "report.html" in finished.stdout
    assert "magnitude/global" in finished.stdout


def test_what_is_done_is_not_done_again(folder, finished):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/record.json")}
    again = run(f"--output_dir={folder}", *SMOKE, module="benchmark")
    assert again.returncode == 0, again.stderr
    assert f" of {TRIALS}: " not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/record.json")} == before


def test_wrong_words(tmp_path):
    grid = tmp_path / "grid.toml"
    grid.write_text('method = "snip"\n[[pairs]]\nmodel = "lenet5"\ndataset = "digits"\n')
    out = f"--output_dir={tmp_path / 'out'}"
    ends = together(
        [out, "--methods=magnitud"],
        [out, "--points=0.5"],
        [out, "--points=many"],
        [out, "--pairs=resnet8"],
        [out, f"--grid={grid}"],
        [out, f"--grid={tmp_path / 'none.toml'}"],
        [out, "--seed=1"],
        [out, "--dry_run", "--seeds=0", "--points=4", "--methods=snip", "--controls=dense"],
        module="benchmark",
    )
    messages = [
        "method 'magnitud/global': unknown criterion 'magnitud'. Did you mean magnitude",
        "operating point 0.5 is impossible",
        "--points: could not convert string to float: 'many'",
        "'resnet8' is no model@dataset",
        "unknown setting of .*grid.toml, pair 1: 'method'. Did you mean methods",
        "none.toml",
        "--seed is of one run",
    ]
    for end, message in zip(ends[:-1], messages, strict=True):
        assert end.returncode == 1
        assert end.stderr.startswith("error: ")
        assert message.replace(".*", str(tmp_path) + "/") in end.stderr
        assert "Traceback" not in end.stderr
    assert ends[-1].returncode == 0
    assert ends[-1].stdout.splitlines()[-1] == "2 trials"
    assert not (tmp_path / "out").exists()
