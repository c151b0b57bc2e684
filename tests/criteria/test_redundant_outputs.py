"""Criteria by what feature maps have in common: the order, planted copies, what is folded."""

import itertools

import keras
import numpy as np
import pytest

import tfprune
from tests import models, surgeons
from tfprune.batchnorm import reestimate_batchnorm
from tfprune.criteria.clustering import _pairs
from tfprune.graph import kernels as k
from tfprune.planning import Recipe

L = keras.layers
ALL = ("correlation", "mutual", "mutual(similarity='cka')", "chip")

# Copies of channel 1, and a multiple of channel 2, of each group of channels.
COPIES, TWICE = (4, 7), 5
PLANTED = {*COPIES, TWICE}


def residual():
    """Three groups of channels: those that are added, those inside the branch, those behind it."""
    x = keras.Input((8, 8, 4))
    y = L.Conv2D(8, 3, padding="same", name="stem")(x)
    y = L.ReLU()(L.BatchNormalization(name="stem_norm")(y))
    z = L.Conv2D(8, 3, padding="same", name="inner")(y)
    z = L.ReLU()(L.BatchNormalization(name="inner_norm")(z))
    z = L.BatchNormalization(name="outer_norm")(L.Conv2D(8, 3, padding="same", name="outer")(z))
    y = L.ReLU()(L.Add()([z, y]))
    y = L.Conv2D(8, 3, strides=2, activation="relu", name="down")(y)
    return keras.Model(x, L.Dense(10, activation="softmax", name="head")(L.Flatten()(y)))


def planted(seed=1):
    """Returns a model with redundant channels in every group, whose statistics are the data's."""
    keras.utils.set_random_seed(seed)
    model = residual()
    surgeons.randomise(model, seed)
    x, _ = models.images(32)
    for name in ("stem", "inner", "outer", "down"):
        kernel, bias = (v.copy() for v in model.get_layer(name).get_weights())
        norm = model.get_layer(f"{name}_norm") if name != "down" else None
        values = [kernel, bias, *(norm.get_weights() if norm else [])]
        for value in values:
            value[..., list(COPIES)] = value[..., [1]]
            value[..., TWICE] = value[..., 2]
        for value in values[2:4] if norm else values:  # what scales the map: gamma and beta
            value[..., TWICE] *= 2
        model.get_layer(name).set_weights(values[:2])
        if norm:
            norm.set_weights(values[2:])
    reestimate_batchnorm(model, x)
    return model, x


def share_of_planted(model):
    """Returns the share of the kernels' weights that goes with the planted channels."""
    left = total = 0
    for kernel in k.find(model)[0]:
        name, kept = kernel.layer.name, (8 - len(PLANTED)) / 8
        sides = (name != "stem") + (name != "head")
        left += np.prod(kernel.shape) * kept**sides
        total += np.prod(kernel.shape)
    return 1 - left / total


def zeros(model, name):
    """Returns which channels a layer no longer makes."""
    kernel = model.get_layer(name).get_weights()[0]
    return set(np.flatnonzero(~kernel.reshape(-1, kernel.shape[-1]).any(axis=0)))


def naive(similarity):
    """Removes the later of the two that are most alike, with all pairs looked at each time."""
    alike = np.abs(similarity)
    left = [i for i in range(len(alike)) if similarity[i, i]]
    order, values = [i for i in range(len(alike)) if not similarity[i, i]], []
    while len(left) > 1:
        i, j = max(itertools.combinations(left, 2), key=lambda pair: alike[pair])
        values.append(1 - alike[i, j])
        order.append(j)
        left.remove(j)
    return order + left, values


@pytest.mark.parametrize("size", [1, 2, 9, 40])
@pytest.mark.parametrize("dead", [0, 1, 5])
def test_pairs_go_greedily(size, dead):
    rng = np.random.default_rng(size)
    a = rng.normal(size=(60, 4)) @ rng.normal(size=(4, size)) + 0.3 * rng.normal(size=(60, size))
    similarity = np.corrcoef(a.T).reshape(size, size)
    gone = rng.permutation(size)[:dead]
    similarity[gone] = similarity[:, gone] = 0
    found = _pairs.removal_distances(similarity)
    order, values = naive(similarity)
    np.testing.assert_array_equal(np.argsort(found, kind="stable"), order)
    assert found.shape == (size,)
    alive = found[order][min(dead, size) :]
    np.testing.assert_allclose(alive[:-1], values, rtol=1e-6)
    assert (alive[-1:] >= 1).all()
    assert not found[gone].any()


def test_opposites_are_alike_and_pairs_end_with_one_of_them():
    """Of -0.9, 0.85 and 0.8 the first goes, and the second with it: the third is left."""
    similarity = np.array([[1, -0.9, 0.8], [-0.9, 1, 0.85], [0.8, 0.85, 1]])
    found = _pairs.removal_distances(similarity)
    np.testing.assert_allclose(found, [1, 0.1, 0.2])


def test_layers_that_make_the_same_channels_choose_the_same():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a = rng.normal(size=(30, 6))
        a[:, [1, 5]] = a[:, [4, 2]]
        found = _pairs.removal_distances(np.corrcoef(a.T))
        assert set(np.argsort(found)[:2]) == {4, 5}


@pytest.mark.parametrize("criterion", ["correlation", "mutual", "mutual(similarity='cka')"])
@pytest.mark.parametrize("granularity", ["filter", "channel"])
def test_planted_channels_are_the_first_to_go(criterion, granularity):
    model, x = planted()
    recipe = Recipe.of(
        "sparsity:0.5", criterion=criterion, granularity=granularity, correction="none"
    )
    plan = recipe.bind(model, data=x)
    # The head's are the outputs: none are planted there.
    for layer in plan.scores().layers:
        if layer.kernel.layer.name != "head":
            assert set(np.argsort(layer.scores)[:3]) == PLANTED
            assert np.sort(layer.scores)[2] < 1e-3
            assert np.sort(layer.scores)[3] > 0.05


def test_copies_have_the_least_independence():
    """Of maps of the same strength: the nuclear norm falls less without one of two copies."""
    model = keras.Sequential([keras.Input((6, 6, 6)), L.Conv2D(8, 1, use_bias=False)])
    kernel = np.eye(6, 8)
    kernel[1, 6] = kernel[3, 7] = 1
    model.set_weights([kernel[None, None].astype("float32")])
    x = np.random.default_rng(0).normal(size=(10, 6, 6, 6)).astype("float32")
    plan = Recipe.of("sparsity:0.5", criterion="chip", granularity="filter").bind(model, data=x)
    (layer,) = plan.scores().layers
    assert set(np.argsort(layer.scores)[:4]) == {1, 3, 6, 7}
    assert np.sort(layer.scores)[3] < 0.6 * np.sort(layer.scores)[4]


def test_redundant_channels_are_folded_without_change():
    model, x = planted()
    before = model(x).numpy()
    target = f"sparsity:{share_of_planted(model)}"
    words = {"granularity": "channel", "criterion": "correlation"}
    pruned = tfprune.prune(model, target, data=x, **words)
    for name in ("stem", "inner", "outer", "down"):
        assert zeros(pruned, name) == PLANTED
    assert surgeons.error(before, pruned(x)) < 1e-6
    small = tfprune.shrink(pruned)
    assert small.get_layer("down").filters == 5
    assert surgeons.error(before, small(x)) < 1e-6
    other = np.random.default_rng(5).normal(size=x.shape).astype("float32")  # for any input
    assert surgeons.error(model(other), small(other)) < 1e-5
    cut = tfprune.prune(model, target, data=x, correction="none", **words)
    assert surgeons.error(before, cut(x)) > 1e-2


@pytest.mark.parametrize("criterion", ALL)
def test_identical_filters_everywhere(criterion):
    model = models.tiny()
    for layer in model.layers:
        if layer.get_weights():
            layer.set_weights([np.full_like(w, 0.1) for w in layer.get_weights()])
    x, _ = models.images(16)
    before = model(x).numpy()
    pruned = tfprune.prune(model, "params:0.5", granularity="channel", criterion=criterion, data=x)
    assert len(zeros(pruned, "conv")) == 4
    if criterion == "correlation":
        np.testing.assert_allclose(pruned(x), before, rtol=1e-6)


@pytest.mark.parametrize("criterion", ALL)
def test_a_layer_with_one_filter(criterion):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            L.Conv2D(1, 3, activation="relu", name="one"),
            L.Conv2D(4, 3, name="four"),
            L.Flatten(),
            L.Dense(3, name="head"),
        ]
    )
    surgeons.randomise(model)
    x, _ = models.images(16)
    for granularity in ("filter", "channel"):
        recipe = Recipe.of("sparsity:0.1", criterion=criterion, granularity=granularity)
        layers = {a.kernel.layer.name: a for a in recipe.bind(model, data=x).scores().layers}
        assert layers["one"].scores.shape == (1,)
        assert layers["one"].scores > 0
        assert layers["four"].scores.shape == (4,)
    words = {"granularity": "channel", "criterion": criterion, "data": x}
    assert not zeros(tfprune.prune(model, "sparsity:0.3", **words), "one")


@pytest.mark.parametrize("criterion", ALL)
def test_channels_are_removed(criterion):
    model = residual()
    surgeons.randomise(model)
    x, y = models.images(16)
    pruned = tfprune.prune(
        model, "sparsity:0.3", granularity="channel", criterion=criterion, data=(x, y)
    )
    assert surgeons.error(pruned(x), tfprune.shrink(pruned)(x)) < 1e-5


@pytest.mark.parametrize("criterion", ALL)
def test_no_data_is_an_error(criterion):
    with pytest.raises(ValueError, match="is computed from data: pass data="):
        tfprune.prune(models.tiny(), "sparsity:0.5", criterion=criterion, granularity="filter")


@pytest.mark.parametrize(
    ("criterion", "message"),
    [
        (
            "mutual(similarity='correlation')",
            "unknown similarity 'correlation'.*Known: cka, cosine",
        ),
        ("mutual(similarity=1)", "unknown similarity '1'"),
        ("chip(examples=0)", "examples=0: one or more"),
        ("chip(images=3)", "images"),
        ("correlation(threshold=0.5)", "threshold"),
    ],
)
def test_wrong_options_are_errors(criterion, message):
    x, _ = models.images(8)
    with pytest.raises((ValueError, TypeError), match=message):
        tfprune.prune(
            models.tiny(), "sparsity:0.5", criterion=criterion, granularity="filter", data=x
        )


@pytest.mark.parametrize("criterion", ALL)
def test_weights_that_are_nan_are_an_error(criterion):
    model = models.tiny()
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel.numpy() * np.nan)
    x, _ = models.images(8)
    with pytest.raises(ValueError, match=r"'conv'.*NaN"):
        tfprune.prune(model, "sparsity:0.5", criterion=criterion, granularity="filter", data=x)


@pytest.mark.parametrize("criterion", ALL)
def test_a_granularity_without_meaning_is_an_error(criterion):
    x, _ = models.images(4)
    with pytest.raises(ValueError, match=r"has no meaning for .*: it has for filter and channel$"):
        tfprune.prune(models.tiny(), "sparsity:0.5", criterion=criterion, data=x)


def test_filters_that_go_leave_the_others_as_they_are():
    """Nothing that reads them goes, so that there is nothing to fold."""
    model, (x, _) = models.tiny(), models.images(16)
    pruned = tfprune.prune(
        model, "sparsity:0.3", criterion="correlation", granularity="filter", data=x
    )
    for old, new in zip(k.find(model)[0], k.find(pruned)[0], strict=True):
        np.testing.assert_array_equal(new.read(), np.where(new.read() != 0, old.read(), 0))


def test_a_filter_is_not_folded_and_needs_no_gram_matrix():
    for granularity, inputs in (("filter", set()), ("channel", {"gram"})):
        recipe = Recipe.of("sparsity:0.5", criterion="correlation", granularity=granularity)
        assert recipe.inputs & {"gram"} == inputs
