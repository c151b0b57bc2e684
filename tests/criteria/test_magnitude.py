"""Each criterion by hand."""

import numpy as np
import pytest

from tests import models
from tfprune import criteria, granularity, pruning

KERNEL = np.array([[3.0, -1.0], [-4.0, 2.0]])  # two inputs, two outputs


def score(criterion, spec="weight", **more):
    units = granularity.get(spec)
    method = criteria.get(criterion)
    everything = {
        "weight": KERNEL,
        "units": units("unroll", KERNEL),
        "rng": np.random.default_rng(more.get("seed", 0)),
        **more,
    }
    given = {name: everything[name] for name in criteria.needs(method)}
    return criteria.score(method, units, given, KERNEL.shape, "layer")


def test_magnitude():
    np.testing.assert_allclose(score("magnitude"), [3, 1, 4, 2])
    np.testing.assert_allclose(score("magnitude", "filter"), [3.5, 1.5])


def test_the_mean_of_a_block_leaves_padding_out():
    np.testing.assert_allclose(score("magnitude", "block(4, 1)"), [3.5, 1.5])


def test_l1():
    np.testing.assert_allclose(score("l1", "filter"), [7, 3])


def test_l2():
    np.testing.assert_allclose(score("l2", "filter"), [5, np.sqrt(5)])


def test_bn_scale():
    np.testing.assert_allclose(score("bn_scale", "filter", bn_scale=np.array([-2.0, 1.0])), [2, 1])
    np.testing.assert_allclose(score("bn_scale", bn_scale=np.array([-2.0, 1.0])), [2, 1, 2, 1])


def test_bn_scale_reads_the_norm_that_follows():
    model = models.cnn()
    gamma = np.arange(1.0, 9.0)
    model.get_layer("norm").gamma.assign(gamma)
    pruned = pruning.prune(
        model, "sparsity:0.5", criterion="bn_scale", granularity="filter", allocation="uniform"
    )
    kept = np.abs(pruned.get_layer("conv").kernel.numpy()).sum((0, 1, 2)) > 0
    np.testing.assert_array_equal(kept, gamma > 4)
    # the depthwise convolution and the head have none and stay dense
    assert np.all(pruned.get_layer("depthwise").kernel.numpy() != 0)


def test_bn_scale_without_any_norm_is_an_error():
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="only")])
    with pytest.raises(ValueError, match="no batch normalisation"):
        pruning.prune(model, "sparsity:0.5", criterion="bn_scale")


def test_lamp():
    """w^2 / (sum of the squares not below): 1/30, 4/29, 9/25, 16/16."""
    np.testing.assert_allclose(score("lamp"), [9 / 25, 1 / 30, 1, 4 / 29])


def test_random_follows_the_seed():
    np.testing.assert_array_equal(score("random", seed=1), score("random", seed=1))
    assert np.any(score("random", seed=1) != score("random", seed=2))


def test_a_criterion_that_returns_nonsense_is_named():
    with pytest.raises(ValueError, match=r"shape \(3,\) for layer 'layer'"):
        score(lambda weight: np.zeros(3))
    with pytest.raises(ValueError, match="NaN scores for layer 'layer'"):
        score(lambda weight: weight * np.nan)
    with pytest.raises(TypeError, match="asks for"):
        score(lambda wieght: wieght)
