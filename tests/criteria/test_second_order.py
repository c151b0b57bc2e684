"""Second-order criteria and their weight updates against naive versions of their papers."""

import heapq

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import tfprune
from tests.test_linalg import data, fit, naive
from tfprune import criteria, granularity, linalg, pruning, statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.planning import Recipe
from tfprune.statistics import fisher_blocks

L = keras.layers
ALL = ("obs", "obc", "sparsegpt", "woodfisher")


def score(criterion, weight, spec="weight", **given):
    """Returns one score a unit, as a plan computes them."""
    method, view = criteria.get(criterion), granularity.get(spec)
    given |= {
        "weight": weight,
        "unroll": lambda array: view("unroll", array),
        "pattern": view("pattern") if view.has("pattern") else None,
    }
    wanted = {name: given[name] for name in criteria.needs(method)}
    return criteria.score(method, view, wanted, weight.shape, "layer")


def kernel(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def whole(weight, gram, damping=linalg.DAMPING):
    """Returns the error without the whole kernel, which scores are shares of."""
    parts = np.split(weight.reshape(-1, weight.shape[-1]), len(gram), axis=1)
    forms = [linalg.damped(form, damping=damping) for form in gram]
    return sum(np.trace(w.T @ form @ w) for w, form in zip(parts, forms, strict=True)) / 2


# Optimal Brain Surgeon


def test_obs_of_a_weight_by_hand():
    """H = [[4, 1], [1, 4]], its inverse [[4, -1], [-1, 4]] / 15; wT H w = 36 + 6 + 4."""
    found = score("obs(damping=1)", np.array([[3.0], [1.0]]), gram=np.array([[[2.0, 1], [1, 2]]]))
    np.testing.assert_allclose(found, np.array([9 * 15 / 8, 15 / 8]) / (46 / 2))


def test_obs_of_inputs_that_are_alike_is_magnitude():
    weight = kernel((3, 2, 4))
    found = score("obs", weight, gram=np.eye(6)[None])
    np.testing.assert_allclose(found, np.square(weight).ravel() / np.square(weight).sum())


@pytest.mark.parametrize("spec", ["weight", "filter", "block(2, 1)", "block(1, 3)", "block(4, 2)"])
def test_obs_of_a_unit_is_the_error_without_it(spec):
    x, gram = data(groups=2, rows=6)
    weight, view = kernel((3, 2, 8)), granularity.get(spec)
    found = score("obs", weight, spec, gram=gram)
    matrix = weight.reshape(6, 8)
    for unit in range(len(found)):
        keep = view("fold", np.arange(len(found)) != unit, weight.shape).reshape(6, 8)
        errors = [fit(x[o // 4], matrix[:, o], keep[:, o])[1] for o in range(8)]
        np.testing.assert_allclose(found[unit], sum(errors) / whole(weight, gram))
    if spec == "filter":  # nothing can make up for a whole one
        np.testing.assert_allclose(found.sum(), 1)


def two_layers():
    """Returns a network whose first layer's four channels are read by one layer."""
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(4, "relu", name="made"), L.Dense(3, name="read")]
    )
    x = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
    return model, x, np.maximum(x @ model.layers[0].kernel.numpy(), 0)


def test_obs_of_a_channel_is_what_its_reader_loses_and_can_not_make_up_for():
    model, x, hidden = two_layers()
    words = {"criterion": "obs", "granularity": "channel(normalise='none')"}
    plan = Recipe.of("params:0.5", **words).bind(model, data=x)
    (layer,) = plan.scores().layers
    weight = model.layers[1].kernel.numpy()
    everything = whole(weight, (hidden.T @ hidden)[None])
    for channel in range(4):
        fits = [fit(hidden, weight[:, o], np.arange(4) != channel)[1] for o in range(3)]
        np.testing.assert_allclose(layer.scores[channel], sum(fits) / everything, rtol=1e-4)


def test_readers_make_up_for_channels_that_are_gone():
    model, x, hidden = two_layers()
    pruned = tfprune.prune(
        model, "params:0.6", criterion="obs", granularity="channel", data=x, min_keep=2
    )
    weight, found = (m.layers[1].kernel.numpy() for m in (model, pruned))
    keep = found.any(axis=1)
    assert 0 < keep.sum() < 4
    for o in range(3):
        np.testing.assert_allclose(found[:, o], fit(hidden, weight[:, o], keep)[0], atol=1e-5)
    small = tfprune.shrink(pruned)
    np.testing.assert_allclose(small(x), pruned(x), atol=1e-5)


# Optimal Brain Compression


def test_obc_is_a_share_of_the_error_without_the_kernel():
    """The last weight of an output goes when all others have: it may cost the most."""
    gram = data(rows=4)[1]
    weight = kernel((4, 2), seed=2)
    found = score("obc", weight, gram=gram).reshape(4, 2)
    highest = [max(naive(weight[:, o], gram[0])[1]) for o in range(2)]
    np.testing.assert_allclose(found.max(axis=0), highest / whole(weight, gram))


def test_a_kernel_of_zeros():
    gram = data(rows=4)[1]
    for criterion in ("obs", "obc", "sparsegpt"):
        np.testing.assert_allclose(score(criterion, np.zeros((4, 2)), gram=gram), 0, atol=1e-300)


def merged(weight, gram, count):
    """Removes `count` weights as in the paper: a heap over the rows' next increments."""
    rows = [naive(weight[:, o], gram)[:2] for o in range(weight.shape[1])]
    heap = [(increments[0], o, 0) for o, (_, increments) in enumerate(rows)]
    heapq.heapify(heap)
    mask = np.ones(weight.shape, bool)
    for _ in range(count):
        _, o, step = heapq.heappop(heap)
        mask[rows[o][0][step], o] = False
        if step + 1 < len(weight):
            heapq.heappush(heap, (rows[o][1][step + 1], o, step + 1))
    return mask


@pytest.mark.parametrize("count", [5, 20, 40])
def test_one_sort_of_obc_is_the_merge_of_its_rows(count):
    gram = data(rows=8)[1]
    weight = kernel((8, 6), seed=3)
    found = score("obc", weight, gram=gram)
    assert any(np.diff(naive(weight[:, o], gram[0])[1]).min() < 0 for o in range(6))  # not sorted
    mask = np.ones(48, bool)
    mask[np.argsort(found)[:count]] = False
    np.testing.assert_array_equal(mask.reshape(8, 6), merged(weight, gram[0], count))


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_obc_leaves_what_its_updates_come_to(steps):
    gram = data(rows=8)[1]
    weight = kernel((8, 1), seed=4)
    losses = score("obc", weight, gram=gram)
    mask = losses >= np.sort(losses)[steps]
    found = criteria.get("obc")("correct", weight=weight, mask=mask[:, None], gram=gram)
    np.testing.assert_allclose(found[:, 0], naive(weight[:, 0], gram[0], stop=steps)[2], atol=1e-9)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2)])
def test_obc_never_goes_below_n_of_m(n, m):
    """Which n stay is settled by a greedy order in which full groups are left alone."""
    gram = data(rows=16, n=60)[1]
    weight = kernel((2, 8, 3), seed=5)  # 2 places, 8 inputs
    spec = f"n_m({n}, {m})"
    view = granularity.get(spec)
    found = score("obc", weight, spec, gram=gram)
    mask = view("fold", view("stays", found), weight.shape).reshape(16, 3)
    for o in range(3):
        order = naive(weight[..., o].ravel(), gram[0], (n, m))[0]
        assert set(np.flatnonzero(~mask[:, o])) == set(order[: 16 * (m - n) // m])


# SparseGPT


def swept(weight, gram, choose):
    """Sweeps row after row with a new inverse of what is left each time (the paper's eq. 3, 5).

    `choose(row, weights, diagonals)` returns the mask of what goes of a row and those behind that
    are settled with it, or None where that was done before.
    """
    whole, w = linalg.damped(gram), weight.copy()
    size = len(w)
    # The pivots of the sweep: [H_c:,c:^-1]_cc for each row c.
    first = [np.linalg.inv(whole[c:, c:])[0] for c in range(size)]
    gone = np.zeros(w.shape, bool)
    for c in range(size):
        chosen = choose(c, w, np.array([row[0] for row in first]))
        if chosen is not None:
            gone[c : c + len(chosen)] = chosen
        for o in np.flatnonzero(gone[c]):
            w[c:, o] -= w[c, o] / first[c][0] * first[c]
            w[c, o] = 0
    return w, ~gone


def lowest(scores, count):
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(scores.ravel(), kind="stable")[:count]] = True
    return mask.reshape(scores.shape)


def sparsegpt(weight, mask, gram, pattern=None, spec="sparsegpt"):
    return criteria.get(spec)("correct", weight=weight, mask=mask, gram=gram, pattern=pattern)


def some(shape, share=0.5, seed=0):
    """Returns a mask that keeps a share of all weights."""
    mask = np.ones(shape, bool)
    mask.ravel()[np.random.default_rng(seed).permutation(mask.size)[: int(share * mask.size)]] = 0
    return mask


def test_sparsegpt_scores_by_the_inverse_of_the_rows_behind():
    gram = data(rows=5)[1]
    weight = kernel((5, 3))
    diagonal = [np.linalg.inv(linalg.damped(gram[0])[c:, c:])[0, 0] for c in range(5)]
    found = score("sparsegpt", weight, gram=gram)
    expected = weight**2 / np.array(diagonal)[:, None] / (2 * whole(weight, gram))
    np.testing.assert_allclose(found.reshape(5, 3), expected)


def test_sparsegpt_in_one_block_settles_the_mask_at_once():
    gram = data(rows=6)[1]
    weight, mask = kernel((6, 4)), some((6, 4), 1 / 3)

    def choose(row, w, diagonal):
        return lowest(w**2 / diagonal[:, None], 8) if row == 0 else None

    expected = swept(weight, gram[0], choose)
    for a, b in zip(sparsegpt(weight, mask, gram), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_sparsegpt_settles_the_mask_of_each_block_anew():
    gram = data(rows=10)[1]
    weight, mask = kernel((10, 3)), some((10, 3), 0.5)  # 15 of 30; blocks of 12, 12 and 6

    def choose(row, w, diagonal):
        if row % 4:
            return None
        part = slice(row, row + 4)
        return lowest(w[part] ** 2 / diagonal[part, None], 6 if row < 8 else 3)

    expected = swept(weight, gram[0], choose)
    for a, b in zip(sparsegpt(weight, mask, gram, spec="sparsegpt(4)"), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("spec", ["sparsegpt(8)", "sparsegpt(5)", "sparsegpt(2)", "sparsegpt"])
def test_sparsegpt_n_of_m_whatever_the_block(spec):
    gram = data(rows=16, n=60)[1]
    weight = kernel((2, 8, 3))
    mask = granularity.get("n_m")("fold", np.arange(48) % 4 < 2, weight.shape)

    def choose(row, w, diagonal):
        if row % 4:
            return None
        part = slice(row, row + 4)
        scores = w[part] ** 2 / diagonal[part, None]
        return np.stack([lowest(column, 2) for column in scores.T], axis=1)

    expected = swept(weight.reshape(16, 3), gram[0], choose)
    found = sparsegpt(weight, mask, gram, (2, 4), spec)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.reshape(16, 3), b, atol=1e-9)


def test_sparsegpt_removes_as_many_as_the_mask_of_each_group():
    gram = data(groups=3, rows=7)[1]
    weight, mask = kernel((7, 1, 6)), some((7, 1, 6), 0.4)
    for spec in ("sparsegpt(3)", "sparsegpt(2)", "sparsegpt"):
        new, settled = sparsegpt(weight, mask, gram, spec=spec)
        counts = [linalg.matrix(m, 3).sum(axis=(1, 2)) for m in (mask, settled)]
        np.testing.assert_array_equal(*counts)
        np.testing.assert_array_equal(new != 0, settled)


@pytest.mark.parametrize("pattern", [None, (1, 4)])
def test_sparsegpt_keeps_zeros(pattern):
    gram = data(rows=8)[1]
    weight, mask = kernel((8, 3)), np.ones((8, 3), bool)
    weight[[0, 1, 5], 0] = weight[6, 2] = 0
    mask[weight == 0] = False
    mask[2:4, 1] = mask[7, 0] = False
    new, settled = sparsegpt(weight, mask, gram, pattern, "sparsegpt(4)")
    assert not new[weight == 0].any()
    assert settled.sum() == mask.sum()


def test_a_block_of_no_rows():
    with pytest.raises(ValueError, match="block=0"):
        score("sparsegpt(0)", kernel((4, 2)), gram=data(rows=4)[1])


# WoodFisher


def classifier():
    """Returns a small network, its data, and each example's gradient, {kernel name: (n, ...)}."""
    model = keras.Sequential(
        [keras.Input((5, 2)), L.Conv1D(3, 2, activation="tanh"), L.Flatten(), L.Dense(4)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5, 2)).astype("float32"), rng.integers(0, 4, 12)
    kernels = k.find(model)[0]
    alone = [
        statistics.collect(["grad"], Calibration(model, (x[i : i + 1], y[i : i + 1])), kernels, {})
        for i in range(12)
    ]
    return model, (x, y), {v.name: np.stack([g["grad"][v.name] for g in alone]) for v in kernels}


def lined_up(array):
    """Returns weights in PyTorch's layout: outputs, inputs, places."""
    return np.moveaxis(array, (-1, -2), (0, 1)).ravel()


def woodbury(gradients, damping):
    """Returns the inverse of the damped Fisher matrix by one update an example (eq. 9)."""
    inverse = np.eye(gradients.shape[1]) / damping
    for g in gradients:
        v = inverse @ g
        inverse -= np.outer(v, v) / (len(gradients) + g @ v)
    return inverse


@pytest.mark.parametrize("block", [4, 5, 1000])
def test_woodfisher_is_obs_in_the_inverse_of_the_paper(block):
    model, examples, gradients = classifier()
    kernels = k.find(model)[0]
    options = {"block": block, "damping": 0.2}
    calibration = Calibration(model, examples)
    given = statistics.collect(["fisher_blocks"], calibration, kernels, options)["fisher_blocks"]
    lines = {name: np.stack([lined_up(g) for g in found]) for name, found in gradients.items()}
    damping = 0.2 * np.square(np.concatenate(list(lines.values()), axis=1)).mean()
    for x in kernels:
        weight, mask = x.read(), some(x.shape, 0.4)
        inputs = {"weight": weight, "fisher_blocks": given[x.name]}
        scores = lined_up(score("woodfisher", **inputs).reshape(x.shape))
        found = lined_up(criteria.get("woodfisher")("correct", mask=mask, **inputs))
        w, gone = lined_up(weight), ~lined_up(mask)
        for start in range(0, w.size, block):
            part = slice(start, start + block)
            inverse = woodbury(lines[x.name][:, part], damping)
            expected = w[part] ** 2 / (2 * np.diag(inverse))
            np.testing.assert_allclose(scores[part], expected, rtol=1e-3)
            some_gone = gone[part]
            joint = inverse[np.ix_(some_gone, some_gone)]
            update = inverse[:, some_gone] @ np.linalg.solve(joint, w[part][some_gone])
            expected = np.where(some_gone, 0, w[part] - update)
            np.testing.assert_allclose(found[part], expected, rtol=1e-3, atol=1e-4)


def test_the_whole_kernel_as_one_block():
    model, examples, _ = classifier()
    kernels, calibration = k.find(model)[0], Calibration(model, examples)
    found = statistics.collect(["fisher_blocks"], calibration, kernels, {"block": 10**6})
    for x in kernels:
        assert found["fisher_blocks"][x.name].shape == (1, x.size, x.size)


def test_kernels_in_several_passes_are_as_in_one(monkeypatch):
    model, examples, _ = classifier()
    kernels, calibration = k.find(model)[0], Calibration(model, examples)
    once = fisher_blocks.collect(calibration, kernels, block=4)
    monkeypatch.setattr(fisher_blocks, "_NUMBERS", 1)
    for name, found in fisher_blocks.collect(calibration, kernels, block=4).items():
        np.testing.assert_allclose(found, once[name], rtol=1e-5)


@pytest.mark.parametrize("options", [{"block": 0}, {"damping": 0.0}])
def test_options_of_woodfisher_out_of_range(options):
    model, examples, _ = classifier()
    with pytest.raises(ValueError, match="they are above 0"):
        fisher_blocks.collect(Calibration(model, examples), k.find(model)[0], **options)


# All of them


@pytest.fixture(scope="module")
def digits():
    """Returns a small network trained on images of digits, and those it was trained on or not."""
    keras.utils.set_random_seed(0)
    stored = load_digits()
    x, y = (stored.images[..., None] / 16).astype("float32"), stored.target
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(8, 3, padding="same", activation="relu"),
            L.Conv2D(16, 3, strides=2, activation="relu"),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 0.01
    model.fit(x[:1200], y[:1200], batch_size=64, epochs=4, verbose=0)
    return model, (x[:512], y[:512]), (x[1200:], y[1200:])


def top1(model, examples):
    return np.mean(model(examples[0]).numpy().argmax(axis=1) == examples[1])


@pytest.mark.parametrize("spec", ["weight", "n_m(1, 4)"])
def test_more_is_left_than_by_magnitude(digits, spec):
    model, examples, unseen = digits
    words = {"granularity": spec, "allocation": "uniform", "data": examples}
    found = {
        criterion: top1(tfprune.prune(model, "sparsity:0.75", criterion=criterion, **words), unseen)
        for criterion in (*ALL, "magnitude")
    }
    assert min(found[criterion] for criterion in ALL) > found["magnitude"] + 0.03, found


@pytest.mark.parametrize("criterion", ALL)
def test_masks_grow(digits, criterion):
    model, examples, _ = digits
    words = {"criterion": criterion, "allocation": "uniform"}
    plan = Recipe.of("sparsity:0.6", **words).bind(pruning.clone(model), data=examples)
    plan.apply(0.3)
    before = [x.read() for x in plan.kernels]
    plan.apply(0.6)
    for old, x in zip(before, plan.kernels, strict=True):
        assert not x.read()[old == 0].any()
        assert abs((x.read() == 0).mean() - 0.6) <= 0.5 / x.size + 1e-9


@pytest.mark.parametrize("criterion", ALL)
def test_one_example_is_enough(digits, criterion):
    model, (x, y), _ = digits
    pruned = tfprune.prune(model, "sparsity:0.5", criterion=criterion, data=(x[:1], y[:1]))
    assert all(np.isfinite(w).all() for w in pruned.get_weights())


@pytest.mark.parametrize("criterion", ["obc", "sparsegpt", "woodfisher"])
def test_units_that_a_criterion_has_no_meaning_for(criterion):
    with pytest.raises(ValueError, match="it has for weight and n_m"):
        Recipe.of("sparsity:0.5", criterion=criterion, granularity="filter")
