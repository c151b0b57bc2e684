"""Layer-wise linear algebra against NumPy's least squares, naive loops and brute force."""

import itertools

import numpy as np
import pytest

from tfprune import linalg


def data(groups=1, rows=6, n=40, seed=0):
    """Returns correlated inputs, (groups, n, rows), and their Gram matrices."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, n, rows)) @ rng.normal(size=(groups, rows, rows))
    return x, x.swapaxes(1, 2) @ x


def fit(x, weight, keep, damping=linalg.DAMPING):
    """Returns the best weights among those kept, and half their squared error, by `lstsq`.

    Damping is as if there were more inputs, one for each row of a multiple of the identity.
    """
    rows = x.shape[1]
    scale = np.sqrt(damping * np.square(x).sum() / rows)
    x = np.concatenate([x, scale * np.eye(rows)])
    result = np.zeros(rows)
    result[keep] = np.linalg.lstsq(x[:, keep], x @ weight, rcond=None)[0]
    return result, np.square(x @ (weight - result)).sum() / 2


def naive(weight, gram, pattern=None, stop=None):
    """Removes an output's weights greedily, with a new inverse each time.

    Returns:
      The order, the increments of the error, and the weights after `stop` steps.
    """
    size = len(weight)
    whole = linalg.damped(gram)
    n, m = pattern or (0, size)
    w, left, order, increments = weight.copy(), list(range(size)), [], []
    while left and len(order) != stop:
        inverse = np.linalg.inv(whole[np.ix_(left, left)])
        losses = w[left] ** 2 / np.diag(inverse) / 2
        gone = np.bincount(np.array(order, int) // m, minlength=size // m)
        if gone.min() < m - n:
            losses[[gone[q // m] >= m - n for q in left]] = np.inf
        i = int(losses.argmin())
        order.append(left[i])
        increments.append(losses[i])
        w[left] -= w[left[i]] / inverse[i, i] * inverse[:, i]
        w[left.pop(i)] = 0
    return order, increments, w


def test_damping_is_a_share_of_the_mean_diagonal():
    np.testing.assert_allclose(linalg.damped(np.diag([1.0, 3]), damping=0.5), np.diag([2.0, 4]))
    np.testing.assert_allclose(linalg.damped(np.zeros((2, 2))), np.eye(2))


def test_inverse():
    gram = data()[1][0]
    np.testing.assert_allclose(linalg.inverse(gram) @ linalg.damped(gram), np.eye(6), atol=1e-9)


def test_no_damping_of_a_singular_matrix_is_an_error():
    with pytest.raises(ValueError, match="damping=0"):
        linalg.inverse(np.ones((2, 2)), damping=0)


def test_refit_is_least_squares_in_each_group():
    rng = np.random.default_rng(1)
    x, gram = data(groups=2, rows=6)
    weight = rng.normal(size=(3, 2, 8))  # 3 places, 2 inputs, 2 x 4 outputs
    mask = rng.random(weight.shape) < 0.5
    mask[..., 0], mask[..., 1], mask[..., 3] = True, False, mask[..., 2]
    found = linalg.refit(weight, mask, gram)
    for output in range(8):
        w, keep = weight[..., output].ravel(), mask[..., output].ravel()
        np.testing.assert_allclose(
            found[..., output].ravel(), fit(x[output // 4], w, keep)[0], atol=1e-9
        )
    assert not found[~mask].any()


@pytest.mark.parametrize("removed", [1, 3, 5])
def test_least_squares_is_what_single_updates_come_to(removed):
    gram = data()[1]
    weight = np.random.default_rng(2).normal(size=6)
    order, increments, updated = naive(weight, gram[0], stop=removed)
    mask = np.ones((1, 6, 1), bool)
    mask[0, order] = False
    found = linalg.least_squares(weight[None, :, None], mask, gram)[0, :, 0]
    np.testing.assert_allclose(found, updated, atol=1e-9)
    change = found - weight
    np.testing.assert_allclose(change @ linalg.damped(gram[0]) @ change / 2, sum(increments))


def test_joint_losses_are_the_error_that_is_left():
    rng = np.random.default_rng(3)
    x, gram = data(groups=2)
    weight = rng.normal(size=(2, 6, 3))
    units = rng.integers(0, 4, weight.shape)  # any sets of weights, over outputs and groups
    shares = linalg.joint_losses(weight, units, linalg.inverses(gram))
    for unit in range(4):
        total = 0.0
        for group, output in itertools.product(range(2), range(3)):
            keep = units[group, :, output] != unit
            total += fit(x[group], weight[group, :, output], keep)[1]
        np.testing.assert_allclose(shares[units == unit].sum(), total)


@pytest.mark.parametrize(
    ("groups", "rows", "outputs", "pattern"),
    [(1, 12, 5, None), (3, 9, 2, None), (1, 12, 5, (2, 4)), (2, 12, 3, (1, 4)), (1, 1, 2, None)],
)
def test_greedy_losses_are_those_of_a_new_inverse_at_each_step(groups, rows, outputs, pattern):
    gram = data(groups, rows)[1]
    weight = np.random.default_rng(4).normal(size=(groups, rows, outputs))
    found = linalg.greedy_losses(weight, linalg.inverses(gram), pattern=pattern)
    for group, output in itertools.product(range(groups), range(outputs)):
        order, increments, _ = naive(weight[group, :, output], gram[group], pattern)
        losses = found[group, :, output]
        assert list(np.argsort(losses)) == order
        np.testing.assert_allclose(losses[order], np.maximum.accumulate(increments), rtol=1e-7)
        assert (np.diff(losses[order]) > 0).all()  # no ties: a sort gives the order back


def test_many_outputs_are_as_few():
    gram = data(rows=40, n=100)[1]
    weight = np.random.default_rng(5).normal(size=(1, 40, 90))
    whole = linalg.greedy_losses(weight, linalg.inverses(gram))
    alone = linalg.greedy_losses(weight[..., -1:], linalg.inverses(gram))
    np.testing.assert_allclose(whole[..., -1:], alone)


def test_greedy_against_the_best_of_all_masks():
    """The first step is the best there is; later ones are no better than brute force, and near."""
    x, gram = data(rows=5)
    ratios = []
    for seed in range(20):
        weight = np.random.default_rng(seed).normal(size=5)
        increments = naive(weight, gram[0])[1]
        for count in range(1, 5):
            masks = (np.isin(range(5), c) for c in itertools.combinations(range(5), 5 - count))
            best = min(fit(x[0], weight, keep)[1] for keep in masks)
            ratios.append((count, sum(increments[:count]) / best))
    ratios = np.array(ratios)
    np.testing.assert_allclose(ratios[ratios[:, 0] == 1, 1], 1)
    assert ratios[:, 1].min() >= 1 - 1e-9
    assert np.median(ratios[:, 1]) < 1.1


def test_weights_that_are_zero_go_first():
    gram = data()[1]
    weight = np.random.default_rng(6).normal(size=(1, 6, 2))
    weight[0, [1, 4], 0] = 0
    losses = linalg.greedy_losses(weight, linalg.inverses(gram))[0, :, 0]
    assert set(np.argsort(losses)[:2]) == {1, 4}


def folding(groups=1, seed=7):
    """Returns inputs (groups, n, 3 places, 6 inputs), a kernel, and its Gram matrices so far."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 50, 3, 6)) @ rng.normal(size=(groups, 1, 6, 6))
    weight = rng.normal(size=(3, 6, 4 * groups))
    return x, weight, lambda: np.stack([a.T @ a for a in x.reshape(groups, 50, 18)])


def output(x, weight):
    """Returns what the kernel makes of the inputs, a group after another."""
    parts = np.split(weight, len(x), axis=-1)
    return np.concatenate([np.einsum("nsi,sio->no", *pair) for pair in zip(x, parts, strict=True)])


@pytest.mark.parametrize("groups", [1, 2])
def test_copies_and_multiples_are_folded_without_change(groups):
    x, weight, gram = folding(groups)
    x[..., 4], x[..., 5], x[..., 2] = x[..., 1], -2 * x[..., 0], x[..., 1] / 3
    mask = np.ones(weight.shape, bool)
    mask[:, [2, 4, 5]] = False
    found = linalg.fold(weight, mask, gram())
    assert not found[~mask].any()
    np.testing.assert_allclose(output(x, found), output(x, weight), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found[:, 3], weight[:, 3])
    np.testing.assert_allclose(found[:, 0], weight[:, 0] - 2 * weight[:, 5])


def test_an_input_is_folded_where_least_is_lost():
    """Of all pairs by `lstsq`: what an input adds to the output, by what another would."""
    x, weight, gram = folding()
    mask = np.ones(weight.shape, bool)
    mask[:, [1, 4]] = False
    expected = np.where(mask, weight, 0)
    for gone in (1, 4):
        target = (x[0, :, :, gone] @ weight[:, gone]).ravel()
        fits = {}
        for kept in (0, 2, 3, 5):
            column = (x[0, :, :, kept] @ weight[:, gone]).ravel()[:, None]
            (scale,), (error,), *_ = np.linalg.lstsq(column, target, rcond=None)
            fits[kept] = error, scale
        kept = min(fits, key=fits.get)
        expected[:, kept] += fits[kept][1] * weight[:, gone]
    np.testing.assert_allclose(linalg.fold(weight, mask, gram()), expected)


def test_outputs_that_go_have_no_say_in_a_fold():
    _, weight, gram = folding()
    mask = np.ones(weight.shape, bool)
    mask[:, 1], mask[..., 2:] = False, False
    found = linalg.fold(weight, mask, gram())
    np.testing.assert_allclose(
        found[..., :2], linalg.fold(weight[..., :2], mask[..., :2], gram()), atol=1e-12
    )
    assert not found[..., 2:].any()


def test_only_whole_inputs_are_folded():
    _, weight, gram = folding(groups=2)
    mask = np.random.default_rng(8).random(weight.shape) < 0.5
    np.testing.assert_array_equal(linalg.fold(weight, mask, gram()), np.where(mask, weight, 0))
    mask[..., 4:] = False  # a group without inputs that stay
    np.testing.assert_array_equal(linalg.fold(weight, mask, gram()), np.where(mask, weight, 0))
    mask[:] = True
    mask[:, 0] = False
    found = linalg.fold(weight, mask, 0 * gram())  # nothing is ever active
    np.testing.assert_array_equal(found, np.where(mask, weight, 0))
