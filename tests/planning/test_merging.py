"""Merging: duplicates go and nothing changes, through normalisation, additions and a Flatten."""

import keras
import numpy as np
import pytest
import scipy.spatial

import tfprune
from tests import models, surgeons
from tfprune import masks as attached
from tfprune.planning import Recipe, merging

L = keras.layers


class Duplicates:
    """A criterion: how far a channel is from the nearest before it, all that makes it together."""

    JOINT = True
    SIDE = "made"

    @staticmethod
    def score(units):
        distances = scipy.spatial.distance.cdist(units, units)
        distances[np.triu_indices(len(units))] = 1e3
        return distances.min(axis=1)


def passing(x):
    return L.Activation("swish")(L.BatchNormalization()(x))


def network(kind):
    """Returns a model in which channels are read in this way."""
    x = keras.Input((8, 8, 3))
    y = z = passing(L.Conv2D(8, 3, padding="same", use_bias=False)(x))
    match kind:
        case "residual":
            y = passing(L.Conv2D(6, 3, padding="same")(y))
            y = L.Add()([L.BatchNormalization()(L.Conv2D(8, 3, padding="same")(y)), z])
            y = passing(y)  # a normalisation that follows no layer
        case "depthwise":
            y = passing(L.DepthwiseConv2D(3, depth_multiplier=2)(y))
        case "transposed":
            y = passing(L.Conv2DTranspose(6, 3, strides=2)(y))
        case "concatenated":
            y = L.Concatenate()([L.Conv2D(5, 1)(y), y])
        case "separable":
            y = passing(L.SeparableConv2D(6, 3)(y))
        case "renormalised":
            y = L.BatchNormalization(scale=False)(L.Conv2D(6, 1)(y))
            y = L.BatchNormalization(center=False)(y)
    y = L.Conv2D(8, 3, padding="same", name="reader")(y)
    y = L.Dense(12, activation="relu")(L.Flatten()(y))
    return keras.Model(x, L.Dense(4, name="head")(y))


KINDS = ["residual", "depthwise", "transposed", "concatenated", "separable", "renormalised"]


@pytest.mark.parametrize("kind", KINDS)
def test_duplicates_are_merged_with_the_function_unchanged(kind):
    model = network(kind)
    surgeons.randomise(model)
    surgeons.plant(model)
    words = {"criterion": Duplicates(), "granularity": "channel", "allocation": "uniform"}
    x = surgeons.inputs(model, n=4)
    merged = tfprune.prune(model, "sparsity:0.3", correction="merge", **words)
    assert surgeons.error(model(x), merged(x)) <= 1e-6
    small = tfprune.shrink(merged)
    assert surgeons.error(model(x), small(x)) <= 1e-6
    assert small.count_params() < 0.8 * model.count_params()
    deleted = tfprune.prune(model, "sparsity:0.3", correction="none", **words)
    assert surgeons.error(model(x), deleted(x)) > 1e-2


def test_recurrent_units_are_merged():
    x = keras.Input((6, 4))
    model = keras.Model(x, L.Dense(3)(L.LSTM(6)(L.LSTM(6, return_sequences=True)(x))))
    surgeons.randomise(model)
    # A duplicate is read by the recurrent kernel as well, which merging then adds up.
    surgeons.plant(model, copies=1)
    words = {"criterion": Duplicates(), "granularity": "channel", "allocation": "uniform"}
    merged = tfprune.prune(model, "sparsity:0.2", correction="merge", **words)
    assert surgeons.error(model(surgeons.inputs(model)), merged(surgeons.inputs(model))) <= 1e-6
    assert any((~mask).any() for mask in attached.of(merged).values())


def chain():
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(4, use_bias=False), L.Dense(1, use_bias=False)]
    )
    first, head = model.layers
    first.set_weights([np.array([[0.0, 1, 8, 4], [3, 0, -1, -0.5]])])
    head.set_weights([np.array([[1.0], [2], [4], [8]])])
    return model


def test_weights_go_to_the_likest_that_is_kept():
    """By hand: channels 0 and 3 go; 0 is at right angles to the others, 3 a multiple of 2."""
    pruned = tfprune.prune(
        chain(),
        "sparsity:0.5",
        granularity="channel",
        correction="merge",
        criterion=lambda units: np.array([0.0, 1, 1, 0])[: len(units)],
    )
    # The fit of one rectified white signal by another at right angles is 1 / pi of it.
    expected = [[0], [2 + 1 * 3 / np.pi], [4 + 8 * 0.5], [0]]
    np.testing.assert_allclose(pruned.layers[1].kernel, expected, rtol=1e-6)


def test_the_factor_is_the_least_squares_fit_of_what_is_rectified():
    """Against a regression on a million random inputs."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(3, 4))
    heir, factor = merging._alike(made, np.array([False, True, True]))
    seen = np.maximum(rng.normal(size=(1_000_000, 4)) @ made.T, 0)
    fits = seen[:, 0] @ seen / np.square(seen).sum(axis=0)
    left = [np.square(seen[:, 0] - fits[j] * seen[:, j]).sum() for j in (1, 2)]
    assert heir[0] == 1 + np.argmin(left)
    assert factor[0] == pytest.approx(fits[heir[0]], rel=0.01)
    np.testing.assert_array_equal(heir[1:], [1, 2])
    np.testing.assert_array_equal(factor[1:], 1)


def test_a_channel_of_zeros_takes_nobodys_place():
    heir, factor = merging._alike(
        np.array([[1.0, 2], [0, 0], [0, 0]]), np.array([False, True, True])
    )
    assert (heir == [0, 1, 2]).all()
    assert (factor == 1).all()


def test_what_is_nearest_is_judged_after_normalisation():
    """A kernel's scale is nothing where a batch normalisation takes it out again."""
    x = keras.Input((3,))
    y = L.BatchNormalization(epsilon=1e-12)(L.Dense(3, use_bias=False)(x))
    model = keras.Model(x, L.Dense(1, use_bias=False)(L.ReLU()(y)))
    dense, norm, head = model.layers[1], model.layers[2], model.layers[-1]
    dense.kernel.assign(np.array([[1.0, 10, 1.2], [1, 10, 1], [1, 10, 0]]))
    norm.moving_variance.assign([1.0, 100, 1])
    norm.moving_mean.assign([0.5, 5, 0.5])
    head.kernel.assign([[1.0], [2], [4]])
    scores = np.array([0.0, 1, 1])  # the first goes; raw, the second's factor would be a tenth
    pruned = tfprune.prune(
        model,
        "sparsity:0.33",
        granularity="channel",
        correction="merge",
        criterion=lambda units: scores,
    )
    np.testing.assert_allclose(pruned.layers[-1].kernel, [[0], [3], [4]], rtol=1e-6)


def test_what_is_kept_is_its_own_heir():
    model = models.cnn()
    plan = Recipe.of("macs:0.5", granularity="channel").bind(model)
    masks = plan.masks()
    for find in (merging.nearest, merging.alike):
        for (group, _), (heir, factor) in zip(plan.groups, find(plan, masks), strict=True):
            kept = np.unique(heir)
            np.testing.assert_array_equal(heir[kept], kept)
            np.testing.assert_array_equal(factor[kept], 1)
            assert len(kept) < len(group)


def test_merging_needs_channels():
    with pytest.raises(ValueError, match="granularity='channel'"):
        tfprune.prune(models.tiny(), "sparsity:0.5", correction="merge")
