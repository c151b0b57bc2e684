"""Criteria by what goes in and comes out: by hand, by brute force, and on whole models."""

import functools
import itertools

import keras
import numpy as np
import pytest
from sklearn.linear_model import Lasso

import tfprune
from tests import models, surgeons
from tfprune import criteria, granularity, statistics
from tfprune.batchnorm import reestimate_batchnorm
from tfprune.calibration import Calibration
from tfprune.criteria.sensitivity import _contributions, channel_lasso, thinet
from tfprune.graph import kernels as k

L = keras.layers
BY_CHANNEL = ("apoz", "mean_activation", "hrank", "thinet", "channel_lasso", "nisp")

WEIGHT = np.array([[3.0, -1.0], [-4.0, 2.0], [1.0, 5.0], [0.5, -3.0]])  # four inputs, two outputs
SIZES = np.array([[1.0] * 2, [0.5] * 2, [10.0] * 2, [4.0] * 2])  # of the inputs


def score(criterion, spec="weight", **given):
    view = granularity.get(spec)
    method = criteria.get(criterion)
    given |= {"weight": WEIGHT, "units": view("unroll", WEIGHT)}
    inputs = {name: given[name] for name in criteria.needs(method)}
    return criteria.score(method, view, inputs, WEIGHT.shape, "layer")


def residual():
    """A small network with an addition, a strided convolution and a depthwise one."""
    x = keras.Input((8, 8, 4))
    y = L.Conv2D(8, 3, padding="same", activation="relu", name="stem")(x)
    z = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same", name="inner")(y)))
    z = L.BatchNormalization()(L.Conv2D(8, 3, padding="same", name="outer")(z))
    y = L.ReLU()(L.Add()([z, y]))
    y = L.ReLU()(L.Conv2D(8, 3, strides=2, padding="same", name="down")(y))
    y = L.ReLU()(L.DepthwiseConv2D(3, name="depthwise")(y))
    y = L.Dense(10, activation="softmax", name="head")(L.Flatten()(y))
    return keras.Model(x, y)


READERS = {
    "same": lambda: L.Conv2D(4, 3, padding="same"),
    "strided": lambda: L.Conv2D(4, 3, strides=2, padding="same"),
    "pointwise": lambda: L.Conv2D(4, 1, use_bias=False),
    "dense": lambda: L.Dense(4),
    "grouped": lambda: L.Conv2D(4, 3, groups=2),
}


@functools.cache
def reader(name, channels=5):
    """Returns a kernel, its Gram matrix, and what each input channel adds to its outputs."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6, 6, channels)), READERS[name]()])
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(channels, channels)) + np.eye(channels)  # channels go together
    x = (rng.normal(size=(7, 6, 6, channels)) @ mixed).astype("float32")
    kernel = k.find(model)[0][0]
    gram = statistics.collect(["gram"], Calibration(model, x), [kernel], {})["gram"]
    nothing = model(np.zeros_like(x)).numpy()  # the bias
    parts = [(model(x * alone).numpy() - nothing).ravel() for alone in np.eye(channels)]
    return kernel.read(), gram[kernel.name], np.array(parts, np.float64) / np.sqrt(len(x))


def by_channel(array):
    return np.moveaxis(array, -2, 0).reshape(array.shape[-2], -1)


def test_act():
    expected = [3, 1, 2, 1, 10, 50, 2, 12]
    np.testing.assert_allclose(score("act", input_abs=SIZES), expected)
    np.testing.assert_allclose(score("act", "filter", input_abs=SIZES), [17 / 4, 16])


def test_wanda_ranks_weights_within_each_output():
    expected = [[5, 1], [1, 1], [7, 7], [3, 5]]  # 8 times the middle of the rank; equals by place
    expected[0][1], expected[1][1] = 1, 3
    np.testing.assert_allclose(8 * score("wanda", input_norm=SIZES), np.ravel(expected))
    plain = [3, 1, 2, 1, 10, 50, 2, 12]
    np.testing.assert_allclose(score("wanda(per_output=False)", input_norm=SIZES), plain)
    np.testing.assert_allclose(score("wanda(False)", input_norm=SIZES), plain)


def test_wanda_is_plain_in_larger_units():
    np.testing.assert_allclose(score("wanda", "filter", input_norm=SIZES), [17 / 4, 16])


@pytest.mark.parametrize(("spec", "target"), [("weight", 0.75), ("n_m(2, 4)", 0.5)])
def test_wanda_prunes_every_output_alike(spec, target):
    model = keras.Sequential([keras.Input((8,)), L.Dense(6, name="only")])
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    x *= np.arange(1.0, 9.0, dtype="float32")
    importance = np.abs(model.layers[0].kernel.numpy()) * np.linalg.norm(x, axis=0)[:, None]
    pruned = tfprune.prune(model, f"sparsity:{target}", criterion="wanda", granularity=spec, data=x)
    kept = pruned.layers[0].kernel.numpy() != 0
    blocks = (importance.reshape(-1, 4 if "n_m" in spec else 8, 6), kept.reshape(-1, 4, 6))
    if spec == "weight":
        blocks = importance[None], kept[None]
    for values, stays in zip(*blocks, strict=True):
        for column, own in zip(values.T, stays.T, strict=True):
            assert set(np.flatnonzero(own)) == set(np.argsort(column)[-2:])


@pytest.mark.parametrize(
    ("criterion", "statistic", "expected"),
    [
        ("apoz", "output_zeros", [0.75, 0.25]),
        ("mean_activation", "output_abs", [0.25, 0.75]),
        ("hrank", "output_rank", [0.25, 0.75]),
        ("nisp", "influence", [0.25, 0.75]),
    ],
)
def test_a_filter_has_the_score_of_its_map(criterion, statistic, expected):
    found = score(criterion, "filter", **{statistic: np.array([0.25, 0.75])})
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("name", ["same", "strided", "pointwise", "dense"])
def test_what_is_lost_without_channels_is_what_the_output_loses(name):
    weight, gram, parts = reader(name)
    products = _contributions.products(weight, gram, by_channel)
    for chosen in itertools.product([0.0, 1.0], repeat=5):
        removed = np.array(chosen)
        error = np.square(removed @ parts).sum()
        np.testing.assert_allclose(removed @ products @ removed, error, rtol=1e-4, atol=1e-5)


def test_channels_of_groups_that_are_multiplied_apart():
    weight, gram, parts = reader("grouped", channels=4)
    products = _contributions.products(weight, gram, by_channel)
    both = parts.reshape(2, 2, -1).sum(axis=0)  # one input of the kernel reads one of each group
    np.testing.assert_allclose(products, both @ both.T, rtol=1e-4, atol=1e-5)


def test_several_rows_of_one_channel_and_others_that_are_left_out():
    weight, gram, parts = reader("same")
    products = _contributions.products(weight, gram, lambda a: by_channel(a)[:4].reshape(2, -1))
    both = parts[:4].reshape(2, 2, -1).sum(axis=1)
    np.testing.assert_allclose(products, both @ both.T, rtol=1e-4, atol=1e-5)


def test_thinet_removes_greedily():
    weight, gram, parts = reader("same")
    found = thinet.score(weight, gram, by_channel) * np.square(parts.sum(axis=0)).sum()
    removed, highest, order = [], 0.0, []
    while len(removed) < len(parts):
        left = [c for c in range(len(parts)) if c not in removed]
        errors = [np.square(parts[[*removed, c]].sum(axis=0)).sum() for c in left]
        highest = max(highest, min(errors))
        removed.append(left[int(np.argmin(errors))])
        order.append(highest)
    np.testing.assert_array_equal(np.argsort(found), removed)
    np.testing.assert_allclose(found[removed], order, rtol=1e-4)


def test_thinet_keeps_the_order_where_the_error_falls():
    parts = np.array([[3.0], [-2.9], [1.0]])  # 1, then 1 - 2.9, then 1 - 2.9 + 3
    found = thinet.removal_errors(parts @ parts.T)
    np.testing.assert_array_equal(np.argsort(found), [2, 1, 0])
    np.testing.assert_allclose(found[[2, 1, 0]], [1, 3.61, 3.61])


def test_thinet_scales_the_channels_that_stay():
    weight, gram, parts = reader("same")
    mask = np.ones(weight.shape, bool)
    mask[:, :, [1, 3]] = False
    found = thinet.correct(weight, mask, gram)
    kept = [0, 2, 4]
    factors = found[:, :, kept] / weight[:, :, kept]
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:1, :1, :, :1], factors.shape))
    # Least squares, damped towards a factor of 1.
    damping = 0.01 * np.square(parts).sum(axis=1).mean()
    left = np.concatenate([parts[kept].T, np.sqrt(damping) * np.eye(3)])
    right = np.concatenate([parts.sum(axis=0), np.full(3, np.sqrt(damping))])
    expected = np.linalg.lstsq(left, right, rcond=None)[0]
    np.testing.assert_allclose(factors[0, 0, :, 0], expected, rtol=1e-4)
    assert not found[:, :, [1, 3]].any()


def test_thinet_looks_at_the_outputs_that_stay():
    weight, gram, _ = reader("same")
    mask = np.ones(weight.shape, bool)
    mask[:, :, 1], mask[..., 2:] = False, False
    found = thinet.correct(weight, mask, gram)
    alone = thinet.correct(weight[..., :2], mask[..., :2], gram)
    np.testing.assert_allclose(found[..., :2], alone)
    mask[:, :, 1] = True  # all inputs stay: nothing to make up for
    np.testing.assert_allclose(thinet.correct(weight, mask, gram), np.where(mask, weight, 0))


@pytest.mark.parametrize("penalty", [0.05, 0.2, 0.4])
def test_channel_lasso_is_the_path_of_the_lasso(penalty):
    weight, gram, parts = reader("same", channels=8)
    output = parts.sum(axis=0)
    penalty *= np.square(output).sum()
    lasso = Lasso(alpha=penalty / len(output), fit_intercept=False, tol=1e-10, max_iter=100_000)
    lasso.fit(parts.T, output)
    found = channel_lasso.score(weight, gram, by_channel) * np.square(output).sum()
    np.testing.assert_array_equal(found > penalty, lasso.coef_ != 0)
    assert found.max() == pytest.approx(np.abs(parts @ output).max(), rel=1e-4)


def test_channel_lasso_of_copies_and_of_a_channel_that_is_never_active():
    """Of three equal channels one will do; what is zero has no coefficient."""
    parts = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [2.0, -1.0]])
    found = channel_lasso.entries(parts @ parts.T)
    assert found[3] == 0
    assert found[4] == pytest.approx(5, rel=1e-4)
    first, *others = -np.sort(-found[:3])
    assert first == pytest.approx(15, rel=1e-4)
    assert max(others) <= 5.001


@pytest.mark.parametrize("criterion", BY_CHANNEL)
@pytest.mark.parametrize("make", [models.cnn, residual])
def test_channels_are_removed(make, criterion):
    model = make()
    surgeons.randomise(model)
    x, y = models.images(32)
    pruned = tfprune.prune(
        model, "macs:0.6", granularity="channel", criterion=criterion, data=(x, y)
    )
    small = tfprune.shrink(pruned)
    macs = tfprune.measure(small)["macs"] / tfprune.measure(model)["macs"]
    assert macs == pytest.approx(0.6, abs=0.1)
    np.testing.assert_allclose(pruned(x), small(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("criterion", ["thinet", "channel_lasso"])
def test_a_correction_brings_the_output_nearer(criterion):
    model = residual()
    surgeons.randomise(model)
    x, y = models.images(64)
    reestimate_batchnorm(model, x)  # as pruning does
    before = keras.Model(model.input, model.get_layer("outer").output)
    words = {"criterion": criterion, "granularity": "channel", "protect": ["stem", "down"]}
    errors = {}
    for correction in ("own", "none"):
        pruned = tfprune.prune(model, "sparsity:0.4", correction=correction, data=(x, y), **words)
        # Only the channels of "inner" are gone, which "outer" reads.
        after = keras.Model(pruned.input, pruned.get_layer("outer").output)
        errors[correction] = np.square(before(x) - after(x)).sum()
    assert errors["own"] < errors["none"]


@pytest.mark.parametrize(
    ("criterion", "spec", "known"),
    [
        *((name, "weight", "filter and channel") for name in ("apoz", "mean_activation", "hrank")),
        ("nisp", "block(4, 1)", "filter and channel"),
        ("thinet", "filter", "channel"),
        ("channel_lasso", "n_m", "channel"),
    ],
)
def test_a_granularity_without_meaning_is_an_error(criterion, spec, known):
    x, _ = models.images(4)
    with pytest.raises(ValueError, match=f"has no meaning for .*: it has for {known}$"):
        tfprune.prune(models.cnn(), "sparsity:0.5", criterion=criterion, granularity=spec, data=x)
