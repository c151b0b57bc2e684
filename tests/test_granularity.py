import numpy as np
import pytest

from tfprune import granularity

SPECS = ["weight", "block(4, 1)", "block(1, 4)", "block(3, 2)", "filter", "n_m(2, 4)"]
SHAPES = [(8, 6), (3, 3, 4, 8), (1, 1, 12, 5), (3, 4, 7)]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("shape", SHAPES)
def test_fold_undoes_unroll(spec, shape):
    """Whichever units are kept, the mask covers their weights and no others."""
    method = granularity.get(spec)
    array = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    units = method("unroll", array)
    assert sorted(units[units > 0]) == sorted(array.ravel())
    keep = np.random.default_rng(0).random(len(units)) < 0.5
    mask = method("fold", keep, shape)
    assert mask.shape == shape
    assert sorted(array[mask]) == sorted(units[keep][units[keep] > 0])


def test_block_units_by_hand():
    method = granularity.get("block(2, 2)")
    array = np.arange(12).reshape(3, 4)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 0, 0], [10, 11, 0, 0]]
    np.testing.assert_array_equal(method("unroll", array), expected)
    np.testing.assert_array_equal(granularity.sizes(method, (3, 4)), [4, 4, 2, 2])


def test_n_m_keeps_the_best_of_each_group_along_the_inputs():
    method = granularity.get("n_m(2, 4)")
    scores = np.array([3.0, 1, 2, 0, 5, 5, 5, 5])
    np.testing.assert_array_equal(method("stays", scores), [1, 0, 1, 0, 1, 1, 0, 0])
    # two outputs: the inputs of each run together
    units = method("unroll", np.arange(8).reshape(4, 2)).ravel()
    np.testing.assert_array_equal(units, [0, 2, 4, 6, 1, 3, 5, 7])


def test_n_m_says_which_kernels_it_does_not_fit():
    assert "3 input channels are no multiple of 4" in granularity.get("n_m(2,4)")(
        "refuses", (3, 3, 3, 8)
    )


@pytest.mark.parametrize("spec", ["block(0, 4)", "block(1.5, 2)", "n_m(4, 4)", "n_m(0, 4)"])
def test_sizes_that_are_none(spec):
    with pytest.raises(ValueError, match="whole numbers"):
        granularity.get(spec)("refuses", (8, 8))


def test_channel_units_by_hand():
    """Two channels, of which the second stands at two places of the axis."""
    method = granularity.get("channel")
    array = np.arange(12).reshape(3, 4)
    positions, index = np.array([0, 1, 3]), np.array([1, 0, 1])
    expected = [[1, 5, 9, 0, 0, 0], [0, 4, 8, 3, 7, 11]]
    np.testing.assert_array_equal(method("unroll", array, 1, positions, index), expected)
    np.testing.assert_array_equal(method("unroll", array, 0, np.arange(2), np.arange(2)), array[:2])


def test_channel_mask_is_zero_where_either_axis_is():
    mask = granularity.get("channel")(
        "fold", {0: np.array([True, False]), 2: np.array([False, True])}, (2, 3, 2)
    )
    expected = np.zeros((2, 3, 2), bool)
    expected[0, :, 1] = True
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("channel('sum', 'none')", [4, 2, 6]),
        ("channel('mean', 'none')", [2, 1, 3]),
        ("channel('max', 'none')", [3, 2, 5]),
        ("channel('first', 'none')", [1, 2, 5]),
        ("channel('sum', 'max')", [4 / 6, 2 / 6, 1]),
        ("channel", [1, 0.5, 1.5]),
    ],
)
def test_channel_scores_are_joined_and_normalised(spec, expected):
    scores = [np.array([1.0, 2, 5]), np.array([3.0, 0, 1])]
    np.testing.assert_allclose(granularity.get(spec)("joined", scores), expected)


def test_channel_says_which_ways_of_joining_there_are():
    with pytest.raises(ValueError, match="join is one of mean, sum, max, first"):
        granularity.get("channel(join='median')")("refuses", (1, 1))
