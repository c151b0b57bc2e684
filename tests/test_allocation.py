import functools
import itertools

import numpy as np
import pandas as pd
import pytest

import tfprune
from tests import models
from tfprune import allocation, prune
from tfprune.allocation import Layer, sensitivity
from tfprune.graph import kernels as k


def densities(model):
    return {x.name: np.count_nonzero(x.read()) / x.size for x in k.find(model)[0]}


def toy(sizes, scores, locked=None):
    return [
        Layer(
            name=f"layer{i}",
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


def lattice(rng, layers=4, options=6):
    """Returns whole-number savings and losses of a few options a layer, losses not convex."""
    saved = [np.concatenate([[0], np.cumsum(rng.integers(1, 9, options))]) for _ in range(layers)]
    losses = [np.concatenate([[0], np.cumsum(rng.exponential(1, options) ** 3)]) for _ in saved]
    return [s.astype(float) for s in saved], losses


def totals(saved, losses, chosen):
    picked = list(zip(saved, losses, chosen, strict=True))
    return sum(s[i] for s, _, i in picked), sum(x[i] for _, x, i in picked)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.83, 1.0])
def test_the_knapsack_is_the_best_of_all_choices(seed, share):
    saved, losses = lattice(np.random.default_rng(seed))
    amount = share * sum(s[-1] for s in saved)
    found = totals(saved, losses, sensitivity.knapsack(saved, losses, amount)(amount))
    choices = itertools.product(*(range(len(s)) for s in saved))
    every = np.array([totals(saved, losses, choice) for choice in choices])
    assert found[0] >= amount
    assert found[1] == pytest.approx(every[every[:, 0] >= amount, 1].min())
    rough = totals(saved, losses, sensitivity.greedy(saved, losses, amount)(amount))
    assert rough[0] >= amount
    assert found[1] <= rough[1] + 1e-9


def test_the_knapsack_of_costs_in_millions_is_off_by_a_ten_thousandth_a_layer():
    """Costs are counted in steps: what is saved is enough, and the loss that of a bit more."""
    saved, losses = lattice(np.random.default_rng(0))
    saved = [s * 1e6 + np.arange(len(s)) for s in saved]
    most = sum(s[-1] for s in saved)
    for share in (0.2, 0.5, 0.9, 0.99999):
        amount = share * most
        exact = itertools.product(*(range(len(s)) for s in saved))
        every = np.array([totals(saved, losses, choice) for choice in exact])
        found = totals(saved, losses, sensitivity.knapsack(saved, losses, amount)(amount))
        assert found[0] >= amount * (1 - 1e-3)
        assert found[1] <= every[every[:, 0] >= min(amount * (1 + 4e-4), most), 1].min() + 1e-9


def scanned(curves, points=(0.1, 0.3, 0.5, 0.7, 0.9, 1.0)):
    return pd.DataFrame(
        [
            {"layer": name, "zeros": s, "loss_change": curve(s)}
            for name, curve in curves.items()
            for s in points
        ]
    )


@pytest.mark.parametrize("solver", ["dp", "greedy"])
def test_a_scan_says_which_layer_is_cut(solver):
    """One layer can lose a half for nothing, the other nothing without loss."""
    table = scanned({"layer0": lambda s: 10 * max(s - 0.5, 0), "layer1": lambda s: 3 * s})
    layers = toy([1, 1], [range(100), range(100)])
    costs = [layer.sizes for layer in layers]
    chosen = functools.partial(sensitivity.keys, scan=table, solver=solver)
    for amount, kept in [(30, (70, 100)), (50, (50, 100)), (90, (50, 60))]:
        keep = allocation.keep(allocation.get(chosen), layers, costs, amount=amount)
        assert sum(x.sum() for x in keep) == 200 - amount
        assert tuple(x.sum() for x in keep) == pytest.approx(kept, abs=2)


def test_dear_units_go_first_where_losses_are_equal():
    table = scanned({"layer0": lambda s: s, "layer1": lambda s: s})
    layers = toy([1, 1], [range(100), range(100)])
    costs = [np.full(100, 5), np.full(100, 1)]
    chosen = allocation.get(functools.partial(sensitivity.keys, scan=table))
    keep = allocation.keep(chosen, layers, costs, amount=250)
    np.testing.assert_allclose([x.sum() for x in keep], [50, 100], atol=1)


def test_noise_in_a_scan_makes_nothing_worth_pruning():
    """Where a pruned layer does better than the dense one by chance, that counts as no loss."""
    lucky = {"layer0": lambda s: -0.1 if s < 0.6 else s, "layer1": lambda s: 0.0 if s < 0.6 else s}
    layers = toy([1, 1], [range(10), range(10)])
    chosen = allocation.get(functools.partial(sensitivity.keys, scan=scanned(lucky)))
    keys = chosen("keys", layers, [x.sizes for x in layers], 8.0)
    assert all((np.sort(part) == part).all() for part in keys)
    keep = allocation.keep(chosen, layers, [x.sizes for x in layers], amount=0)
    assert all(x.all() for x in keep)


def test_layers_go_no_further_than_they_were_scanned_unless_all_must():
    table = scanned({"layer0": lambda s: 0.0, "layer1": lambda s: s}, points=(0.2, 0.5))
    layers = toy([1, 1], [range(100), range(100)])
    costs = [layer.sizes for layer in layers]
    chosen = allocation.get(functools.partial(sensitivity.keys, scan=table))
    for amount, kept in [(50, [50, 100]), (80, [50, 70]), (150, [25, 25])]:
        keep = allocation.keep(chosen, layers, costs, amount=amount)
        np.testing.assert_allclose([x.sum() for x in keep], kept, atol=1)


def test_own_losses_are_shares_of_a_layers_scores():
    """A layer whose scores are all a thousand times higher is pruned no less."""
    rng = np.random.default_rng(0)
    scores = rng.random(200)
    layers = toy([1, 1], [scores, 1000 * scores])
    costs = [layer.sizes for layer in layers]
    keep = allocation.keep(allocation.get("sensitivity"), layers, costs, amount=200)
    np.testing.assert_allclose([x.sum() for x in keep], [100, 100], atol=1)


@pytest.mark.parametrize("solver", ["dp", "greedy"])
def test_own_losses_are_what_goes_over_what_stays(solver):
    """Equal scores, costs of 1 and 4: with g gone, the sum of g / (1 - g) is least where the
    shares that stay are as the roots of the costs, 2 to 1 (Lagrange)."""
    layers = toy([1, 1], [np.ones(1200), np.ones(1200)])
    costs = [np.full(1200, 1), np.full(1200, 4)]
    chosen = allocation.get(f"sensitivity(solver='{solver}')")
    keep = allocation.keep(chosen, layers, costs, amount=6000 - 2400)
    np.testing.assert_allclose([x.sum() for x in keep], [800, 400], atol=24)  # steps of 1 %


@pytest.mark.parametrize("goal", [20, 33.3, 60, 99, 110])
def test_a_choice_through_costs_that_depend_on_each_other(goal):
    """Against all choices of three widths: met to one channel, at nearly the least loss."""
    rng = np.random.default_rng(1)
    layers = toy([1, 1, 1], [rng.random(6), rng.random(8), rng.random(4)])
    remaining = products(layers)
    curves = [rng.random() * 4, rng.random() * 4, rng.random() * 4]
    table = scanned({f"layer{i}": lambda s, c=c: c * s**2 for i, c in enumerate(curves)})
    chosen = allocation.get(functools.partial(sensitivity.keys, scan=table))
    keep = allocation.cut(chosen, layers, remaining, goal)

    def loss(widths):
        shares = [1 - w / len(x.scores) for w, x in zip(widths, layers, strict=True)]
        return sum(c * s**2 for c, s in zip(curves, shares, strict=True))

    every = itertools.product(*(range(len(x.scores) + 1) for x in layers))
    within = [w for w in every if products_of(w) <= remaining(keep)]
    assert abs(remaining(keep) - goal) <= 13 / 2 + 1e-9  # half of the dearest channel
    best = min(loss(w) for w in within)
    assert loss([int(x.sum()) for x in keep]) <= 1.15 * best + 0.05


@pytest.mark.parametrize("solver", ["dp", "greedy"])
def test_time_is_saved_where_it_is_spent(solver):
    """Equal losses and parameters, but one layer takes nine times as long."""
    table = scanned({"layer0": lambda s: s, "layer1": lambda s: s})
    table["ms"] = np.where(table["layer"] == "layer0", 0.09, 0.01)
    layers = toy([1, 1], [range(100), range(100)])
    costs = [layer.sizes for layer in layers]
    chosen = functools.partial(sensitivity.keys, scan=table, solver=solver, cost="ms")
    keep = allocation.keep(allocation.get(chosen), layers, costs, amount=60)
    np.testing.assert_allclose([x.sum() for x in keep], [40, 100], atol=1)
    keep = allocation.keep(allocation.get(chosen), layers, costs, amount=120)
    np.testing.assert_allclose([x.sum() for x in keep], [0, 80], atol=1)


def products_of(widths):
    return sum(a * b for a, b in itertools.pairwise([3, *widths, 5]))


def test_a_scan_of_a_file_prunes_a_model(tmp_path):
    model = models.nested()
    table = tfprune.scan(model, models.images(40), sparsities=[0.3, 0.6, 0.9])
    table.to_csv(tmp_path / "scan.csv", index=False)
    for target in ("params:0.5", "macs:0.4"):
        pruned = prune(model, target, allocation=f"sensitivity('{tmp_path}/scan.csv')")
        facts = tfprune.measure(pruned)
        kind, share = target.split(":")
        assert facts[f"nonzero_{kind}"] / facts[kind] == pytest.approx(float(share), abs=1e-2)
    # The original's kernels have other paths than those of the copy that was scanned.
    assert table["layer"][0] not in {x.name for x in k.find(model)[0]}
    path = f"sensitivity('{tmp_path}/scan.csv')"
    prune(model, "params:0.5", allocation=path, in_place=True)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("sensitivity('absent.csv')", OSError, "absent.csv"),
        ("sensitivity(cost='ms')", ValueError, "needs a scan"),
        ("sensitivity(cost='s')", ValueError, "unknown cost"),
        ("sensitivity(solver='exact')", ValueError, "unknown solver"),
        ("sensitivity(speed=1)", ValueError, "its options are scan, solver, cost"),
    ],
)
def test_wrong_words_of_a_sensitivity_allocation(spec, error, message):
    with pytest.raises(error, match=message):
        prune(models.cnn(), "sparsity:0.5", allocation=spec)


def test_a_scan_of_another_model_is_an_error(tmp_path):
    table = scanned({"cnn/conv/kernel": lambda s: s})
    table.to_csv(tmp_path / "scan.csv")
    with pytest.raises(ValueError, match="unknown layer of the scan"):
        prune(models.cnn(), "sparsity:0.5", allocation=f"sensitivity('{tmp_path}/scan.csv')")
    table.drop(columns="zeros").to_csv(tmp_path / "scan.csv")
    with pytest.raises(ValueError, match="no column zeros"):
        prune(models.cnn(), "sparsity:0.5", allocation=f"sensitivity('{tmp_path}/scan.csv')")
