"""The report as a command, as a user runs it."""

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_file_inspector import generators_from_logdir

from tests.pipelines.test_prune import together
from tests.report import trials


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    records = trials.grid(seeds=2, pairs=(("cifar10", "resnet8"),))
    trials.write(folder, [record for record in records if record["point"] in (1, 2, 8)])
    half = folder / "runs" / "half" / "record.json"
    half.parent.mkdir()
    half.write_text("{")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def ends(bench):
    records = f"--records={bench}"
    return together(
        [records, "--published"],
        [
            records,
            "--methods=tfmot",
            f"--output_dir={bench}/chosen",
            f"--tensorboard={bench}/logs",
        ],
        [records, "--methods=snap/global"],
        [f"--records={bench}/empty"],
        [f"--records={bench}/nowhere"],
        [records, f"--output_dir={bench}/runs/half/record.json/below"],
        module="report",
    )


def test_a_report_is_written_and_said(bench, ends):
    done = ends[0]
    assert done.returncode == 0, done.stderr
    assert {x.name for x in (bench / "report").iterdir()} == {"report.html", "figures", "tables"}
    tops = [trials.trial("tfmot", point=8, seed=seed)["pruned_top1"] for seed in (0, 1)]
    row = next(line for line in done.stdout.splitlines() if line.startswith("tfmot"))
    spread = abs(tops[0] - tops[1]) / 2**0.5
    assert f"{50 * sum(tops):.1f} ± {100 * spread:.1f}" in row
    assert "left out" in done.stdout
    assert "half/record.json: can't be read as JSON" in done.stdout
    assert "Checklist (arXiv 2003.03033)" in done.stdout
    assert done.stdout.splitlines()[-1] == f"report: {bench}/report/report.html"
    assert "as reported by their authors" in (bench / "report" / "report.html").read_text()


def test_some_methods_are_shown_with_their_controls(bench, ends):
    assert ends[1].returncode == 0, ends[1].stderr
    shown = pd.read_csv(bench / "chosen" / "tables" / "trials.csv")
    assert set(shown["method"]) == {"dense", "tfmot", "random/uniform", "magnitude/uniform"}
    assert f"TensorBoard: {len(shown)} trials added" in ends[1].stdout
    assert len([*generators_from_logdir(str(bench / "logs"))]) == len(shown)
    assert "reported by" not in (bench / "chosen" / "report.html").read_text()


def test_wrong_words(ends):
    messages = [
        "unknown method 'snap/global'. Did you mean snip/global",
        "no record.json; see docs/records.md",
        "No such file or directory",
        "record.json",
    ]
    for end, message in zip(ends[2:], messages, strict=True):
        assert end.returncode == 1
        assert end.stderr.startswith("error: ")
        assert message in end.stderr
        assert "Traceback" not in end.stderr
