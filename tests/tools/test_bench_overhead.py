import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_overhead.py"


@pytest.mark.slow
def test_it_times_each_method_beside_the_dense_model_and_tfmot():
    flags = ["--steps=8", "--batch=4", "--frequency=2", "--methods=tfmot,masks,rigl,distillation"]
    done = subprocess.run(
        [sys.executable, SCRIPT, *flags], check=True, capture_output=True, text=True
    )
    lines = [[cell.strip() for cell in x.split("|")[1:-1]] for x in done.stdout.splitlines()]
    rows = [line for line in lines if len(line) == 7][2:]
    assert [row[0] for row in rows] == ["tfmot", "masks", "rigl", "distillation"]
    steps = []
    for _, dense, step, tfmot, total, peak, dense_peak in rows:
        steps.append(float(step.split()[0]))
        assert float(dense) > 0
        assert float(tfmot) == pytest.approx(steps[-1] / steps[0], abs=2e-3)
        assert 0.1 < float(total) < 100
        assert 0.8 * float(dense_peak) < float(peak) < 2 * float(dense_peak)
    assert len({row[-1] for row in rows[1:]}) == 1  # of one Keras there is one dense model
