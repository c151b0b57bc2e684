import os
import subprocess
import sys

import numpy as np
import pytest

from tfprune import schedules


def run(spec, steps=101, **settings):
    settings = {"final_sparsity": 0.8, "begin_step": 10, "end_step": 90, "frequency": 10} | settings
    schedule = schedules.build(spec, **settings)
    return [(bool(due), float(s)) for due, s in map(schedule, range(steps))]


def test_polynomial_and_constant_are_tfmots_own():
    tfmot = schedules.tfmot_schedules()
    for spec, theirs in [
        ("polynomial", tfmot.PolynomialDecay(0.0, 0.8, 10, 90, 3, 10)),
        ("polynomial(0.5, 2)", tfmot.PolynomialDecay(0.5, 0.8, 10, 90, 2, 10)),
        ("constant", tfmot.ConstantSparsity(0.8, 10, 90, 10)),
    ]:
        expected = [(bool(d), float(s)) for d, s in map(theirs, range(101))]
        assert run(spec) == expected


@pytest.mark.parametrize(
    "spec", ["cosine", "exponential", "iterative", "iterative(4, 'geometric')"]
)
def test_ramps_rise_from_begin_to_the_final_sparsity(spec):
    due = [(step, s) for step, (d, s) in enumerate(run(spec)) if d]
    assert due[0][0] == 10
    assert due[-1] == (90, pytest.approx(0.8))
    values = [s for _, s in due]
    assert values == sorted(values)


def test_cosine_by_hand():
    values = run("cosine")
    assert values[50] == (True, pytest.approx(0.4))
    assert values[30][1] == pytest.approx(0.8 * (1 - np.cos(np.pi / 4)) / 2)


def test_exponential_leaves_equal_shares():
    values = [s for due, s in run("exponential") if due]
    left = 1 - np.array(values)
    np.testing.assert_allclose(left[1:] / left[:-1], (1 - 0.8) ** (1 / 8))


def test_iterative_rounds():
    linear = [(i, s) for i, (due, s) in enumerate(run("iterative(5)")) if due]
    assert [i for i, _ in linear] == [10, 30, 50, 70, 90]
    np.testing.assert_allclose([s for _, s in linear], [0.16, 0.32, 0.48, 0.64, 0.8])
    geometric = [s for due, s in run("iterative(3, spacing='geometric')") if due]
    np.testing.assert_allclose(geometric, 1 - 0.2 ** (np.arange(1, 4) / 3))


def test_alternating_phases():
    due = [(i, s) for i, (due, s) in enumerate(run("alternating")) if due]
    assert due == [(10, 0.8), (26, 0.0), (42, 0.8), (58, 0.0), (74, 0.8)]
    assert {s for _, s in run("alternating")[:10]} == {0.0}
    assert {s for _, s in run("alternating")[74:]} == {0.8}
    assert [i for i, (due, _) in enumerate(run("alternating(phases=1)")) if due] == [10]


def test_one_shot_and_a_schedule_of_no_length():
    assert [i for i, (due, _) in enumerate(run("one_shot")) if due] == [10]
    # TFMOT's polynomial divides by zero here
    assert [s for due, s in run("polynomial", end_step=10) if due] == [0.8]


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("polynomal", "Did you mean polynomial"),
        ("iterative(spacing='log')", "unknown spacing"),
        ("iterative(0)", "1 or more"),
        ("alternating(phases=2)", "must be odd"),
        ("cosine(power=2)", "its options are initial_sparsity"),
        ("cosine(1.5)", r"not in \[0, 1\)"),
    ],
)
def test_wrong_schedules(spec, match):
    with pytest.raises(ValueError, match=match):
        run(spec)


@pytest.mark.parametrize("value", [None, pytest.param("0", marks=pytest.mark.slow)])
def test_importing_tfmot_leaves_the_environment_as_it_was(value):
    code = (
        "import os, keras\n"
        "from tfprune import schedules\n"
        "schedules.tfmot_schedules()\n"
        "print(os.environ.get('TF_USE_LEGACY_KERAS'), keras.__version__[0])\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    env |= {"TF_USE_LEGACY_KERAS": value} if value else {}
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env
    )
    assert out.stdout.split() == [str(value), "3"]
