import itertools

import numpy as np
import pytest

from tests import models
from tfprune import allocation, prune
from tfprune.allocation import Layer
from tfprune.graph import kernels as k


def densities(model):
    return {x.name: np.count_nonzero(x.read()) / x.size for x in k.find(model)[0]}


def toy(sizes, scores, locked=None):
    return [
        Layer(
            kernel=None,
            scores=np.asarray(s, float),
            sizes=np.full(len(s), size),
            locked=np.zeros(len(s), bool) if locked is None else np.asarray(locked[i], bool),
        )
        for i, (size, s) in enumerate(zip(sizes, scores, strict=True))
    ]


def test_global_weighs_units_by_cost_not_by_count():
    """Two big filters score above eight small ones: half of the weights is one big filter more."""
    layers = toy([100, 10], [[9, 8], [1, 2, 3, 4, 5, 6, 7, 7.5]])
    costs = [layer.sizes for layer in layers]
    keep = allocation.keep(allocation.get("global"), layers, costs, amount=0.5 * 280)
    assert [x.sum() for x in keep] == [1, 0]  # 80 + 100 is nearer to 140 than 80: both by 40, 60


def test_the_cut_is_the_nearest():
    layers = toy([10], [range(10)])
    for amount, kept in [(0, 10), (4, 10), (6, 9), (44, 6), (46, 5), (100, 0)]:
        keep = allocation.keep(allocation.get("global"), layers, [layers[0].sizes], amount=amount)
        assert keep[0].sum() == kept


def test_locked_units_stay_and_too_much_is_out_of_reach():
    layers = toy([1, 1], [[1, 2, 3], [4, 5, 6]], [[1, 0, 0], [0, 0, 1]])
    costs = [layer.sizes for layer in layers]
    keep = allocation.keep(allocation.get("global"), layers, costs, amount=4)
    np.testing.assert_array_equal(np.concatenate(keep), [1, 0, 0, 0, 0, 1])
    with pytest.raises(allocation.Unreachable) as error:
        allocation.keep(allocation.get("global"), layers, costs, amount=5)
    assert error.value.most == 4


def test_equal_scores_are_cut_by_position():
    """TFMOT keeps all ties: a kernel of equal weights asked for 50 % stays dense there."""
    model = models.cnn()
    for kernel in k.find(model)[0]:
        kernel.variable.assign(np.ones(kernel.variable.shape))
    for name in ("global", "uniform", "erk", "lamp"):
        found = densities(prune(model, "sparsity:0.5", allocation=name))
        sizes = {x.name: x.size for x in k.find(model)[0]}
        kept = sum(found[key] * sizes[key] for key in sizes)
        assert abs(kept / sum(sizes.values()) - 0.5) <= 1 / sum(sizes.values())


def test_uniform_rounds_in_each_layer():
    model = models.cnn()
    pruned = prune(model, "sparsity:0.7", allocation="uniform")
    for kernel in k.find(pruned)[0]:
        assert np.count_nonzero(kernel.read()) == round(kernel.size * (1 - 0.7))


def test_uniform_plus_keeps_the_first_convolution_and_a_fifth_of_the_last_dense_layer():
    model = models.cnn()
    found = densities(prune(model, "sparsity:0.4", allocation="uniform_plus"))
    assert found["cnn/conv/kernel"] == 1
    sizes = {x.name: x.size for x in k.find(model)[0]}
    dense = densities(prune(model, "compression:1.8", allocation="uniform_plus"))
    assert dense["cnn/head/kernel"] >= 0.2
    kept = sum(found[name] * size for name, size in sizes.items())
    assert abs(kept - 0.6 * sum(sizes.values())) <= 1


def test_erk_densities_follow_the_formula():
    """density = eps * sum(shape) / prod(shape), capped at 1; eps from the whole (RigL)."""
    model = models.cnn()
    kernels, _ = k.find(model)
    shapes = {x.name: x.shape for x in kernels}
    found = densities(prune(model, "sparsity:0.7", allocation="erk"))
    raw = {name: np.sum(s) / np.prod(s) for name, s in shapes.items()}
    open_layers = [name for name in raw if found[name] < 1]
    eps = [found[name] / raw[name] for name in open_layers]
    assert len(open_layers) >= 2
    np.testing.assert_allclose(eps, np.mean(eps), rtol=0.02)
    assert all(eps[0] * raw[name] >= 0.98 for name in raw if found[name] == 1)


def test_lamp_allocation_of_magnitude_is_lamp_scores_ranked_globally():
    model = models.cnn()
    one = prune(model, "sparsity:0.8", criterion="magnitude", allocation="lamp")
    other = prune(model, "sparsity:0.8", criterion="lamp", allocation="global")
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["global", "uniform", "uniform_plus", "erk", "lamp"])
def test_a_sparser_mask_lies_inside_a_denser_one(name):
    model = models.cnn()
    half, most = (prune(model, f"sparsity:{s}", allocation=name) for s in (0.2, 0.4))
    for a, b in zip(k.find(half)[0], k.find(most)[0], strict=True):
        assert not np.any((a.read() == 0) & (b.read() != 0))


@pytest.mark.parametrize("distinct", [1, 3, 1000, None])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_the_selection_is_the_start_of_the_sorted_order(monkeypatch, distinct, share):
    """Against a full stable sort, with many equal keys and unequal costs."""
    monkeypatch.setattr(allocation, "_FEW", 8)
    rng = np.random.default_rng(0)
    keys = rng.random(3001) if distinct is None else rng.integers(0, distinct, 3001).astype(float)
    cost = rng.integers(1, 5, 3001).astype(float)
    amount = share * cost.sum()
    order = np.argsort(keys, kind="stable")
    removed = np.concatenate([[0.0], np.cumsum(cost[order])])
    expected = order[: np.abs(removed - amount).argmin()]
    found = allocation._first(np.arange(3001), keys, cost, amount)
    assert sorted(found) == sorted(expected)


def products(layers):
    """Returns the cost of a chain of layers: the weights between neighbours, fixed at its ends."""

    def remaining(keep):
        sizes = [3, *(int(x.sum()) for x in keep), 5]
        return sum(a * b for a, b in itertools.pairwise(sizes))

    return remaining


@pytest.mark.parametrize("goal", [20, 33.3, 60, 99, 140])
def test_a_cut_through_costs_that_depend_on_each_other_is_the_nearest(goal):
    rng = np.random.default_rng(0)
    layers = toy([1, 1, 1], [rng.random(6), rng.random(8), rng.random(4)])
    remaining = products(layers)
    order = np.argsort(np.concatenate([x.scores for x in layers]))
    reached = []
    for count in range(len(order) + 1):
        stays = np.ones(len(order), bool)
        stays[order[:count]] = False
        reached.append(remaining(np.split(stays, [6, 14])))
    keep = allocation.cut(allocation.get("global"), layers, remaining, goal)
    assert abs(remaining(keep) - goal) == min(abs(x - goal) for x in reached)


def test_a_cut_rounds_each_layer_and_never_below_one_multiple():
    rng = np.random.default_rng(0)
    layers = toy([1, 1, 1], [rng.random(16), rng.random(30), rng.random(5)])
    for goal in (160, 220, 300, 500):
        keep = allocation.cut(allocation.get("global"), layers, products(layers), goal, round_to=8)
        assert {int(keep[0].sum())} <= {8, 16}
        assert {int(keep[1].sum())} <= {8, 16, 24, 30}
        assert int(keep[2].sum()) == 5  # fewer than a multiple stay whole
        for stays, layer in zip(keep, layers, strict=True):
            if not stays.all():
                assert layer.scores[stays].min() > layer.scores[~stays].max()


def test_a_cut_out_of_reach_says_how_much_can_go():
    layers = toy([1], [[1, 2, 3, 4]], [[0, 0, 1, 1]])
    with pytest.raises(allocation.Unreachable) as error:
        allocation.cut(allocation.get("global"), layers, products(layers), 4)
    assert error.value.most == 4 * 8 - 2 * 8


def test_a_cut_that_has_nothing_to_remove_does_not_round():
    layers = toy([1], [[1, 2, 3, 4, 5]])
    keep = allocation.cut(allocation.get("global"), layers, products(layers), 40, round_to=4)
    assert keep[0].all()
