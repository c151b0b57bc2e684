"""The measure of agreement, by hand."""

import numpy as np
import pytest

from tfprune.tflite.parity import compare

RNG = np.random.default_rng(0)


def test_errors_by_hand():
    expected = [np.array([[0.0, 2.0], [2.0, 0.0]])]
    got = [np.array([[0.5, 2.0], [2.0, 0.0]])]
    assert compare(got, expected) == {
        "max_abs_error": 0.5,
        "mean_abs_error": 0.125,
        "relative_error": 0.125,
    }


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_does_not_matter(scale):
    expected, noise = RNG.normal(size=(50, 4)), 0.01 * RNG.normal(size=(50, 4))
    relative = compare([scale * (expected + noise)], [scale * expected])["relative_error"]
    assert relative == pytest.approx(0.01 * np.sqrt(2 / np.pi), rel=0.2)


def test_unrelated_outputs_score_two_over_root_pi():
    a, b = RNG.normal(size=(2, 20000, 1))
    assert compare([a], [b])["relative_error"] == pytest.approx(2 / np.sqrt(np.pi), rel=0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_bad_value_is_infinitely_wrong(value):
    got = np.zeros((9, 2))
    got[3, 1] = value
    assert compare([got], [np.ones((9, 2))])["relative_error"] == np.inf


def test_rounding_in_a_constant_is_no_fault():
    expected = np.full((9, 1), 0.3)
    assert compare([expected.astype(np.float16)], [expected])["relative_error"] < 0.02
    assert compare([expected], [expected])["relative_error"] == 0
    assert compare([np.zeros((9, 1))], [np.zeros((9, 1))])["relative_error"] == 0


def test_the_worst_output_counts():
    fine, spoilt = RNG.normal(size=(2, 20, 3))
    result = compare([fine, spoilt + 100], [fine, spoilt])
    assert result["relative_error"] > 50


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        compare([np.zeros((2, 3))], [np.zeros((2, 4))])
