"""How feature maps go together, against NumPy, scikit-learn and the formulas done directly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics.pairwise import cosine_similarity

from tests import models, surgeons
from tests.statistics.test_outputs import RESIDUAL, collect, randomised, residual, seen
from tfprune import calibration as calibrations
from tfprune.statistics import _pairs, output_independence, output_similarity

L = keras.layers


@pytest.fixture(scope="module")
def maps():
    """A model, its data, and {layer name: its feature maps (n, positions, channels)}."""
    keras.utils.set_random_seed(1)
    model = randomised(residual())
    x, _ = models.images(20)
    found = {}
    for layer, at in RESIDUAL.items():
        a = keras.Model(model.input, model.get_layer(at).output).predict(x, verbose=0)
        found[layer] = a.reshape(len(x), -1, a.shape[-1]).astype(np.float64)
    return model, x, found


def hsic(k, other):
    """Returns the unbiased estimate of HSIC (Song et al. 2012), term by term."""
    n = len(k)
    k, other = (a - np.diag(np.diag(a)) for a in (k, other))
    middle = k.sum() * other.sum() / ((n - 1) * (n - 2))
    return (np.trace(k @ other) + middle - 2 / (n - 2) * (k @ other).sum()) / (n * (n - 3))


def nuclear(a):
    return np.linalg.svd(a, compute_uv=False).sum()


def independence(a):
    """Returns the fall of the nuclear norm of (positions, channels) without each channel."""
    return np.array([nuclear(a) - nuclear(np.delete(a, i, axis=1)) for i in range(a.shape[1])])


@pytest.mark.parametrize("batch", [64, 7])
def test_correlation_and_cosine(maps, batch):
    model, x, expected = maps
    data = tf.data.Dataset.from_tensor_slices(x).batch(batch)
    correlation = collect("output_correlation", model, data)
    cosine = collect("output_similarity", model, data)
    for layer, a in expected.items():
        rows = a.reshape(-1, a.shape[-1])
        np.testing.assert_allclose(correlation[layer], np.corrcoef(rows.T), atol=1e-5)
        np.testing.assert_allclose(cosine[layer], cosine_similarity(rows.T), atol=1e-5)


def test_steps_that_fit_in_memory_are_as_one(maps, monkeypatch):
    model, x, expected = maps
    monkeypatch.setattr(calibrations, "_MEMORY", 4 * 3 * 4 * 64 * 6)  # three examples of 8x8x6
    asked = []
    batch_size = calibrations.Calibration.batch_size
    monkeypatch.setattr(
        calibrations.Calibration,
        "batch_size",
        lambda *args: asked.append(batch_size(*args)) or asked[-1],
    )
    found = collect("output_correlation", model, x)
    assert asked == [3]
    rows = expected["first"].reshape(-1, 6)
    np.testing.assert_allclose(found["first"], np.corrcoef(rows.T), atol=1e-5)


@pytest.mark.parametrize("sizes", [(20,), (8, 8, 4), (9, 9, 2)])
def test_alignment_is_a_sum_of_unbiased_estimates(maps, sizes):
    """Over batches; two examples have none, and are left out."""
    model, x, expected = maps
    ends = np.cumsum(sizes)
    data = [(x[end - size : end],) for size, end in zip(sizes, ends, strict=True)]
    found = collect("output_similarity", model, data, similarity="cka")
    for layer in ("first", "second", "head"):
        a = expected[layer]
        sums = np.zeros((a.shape[-1],) * 2)
        for size, end in zip(sizes, ends, strict=True):
            if size > 3:
                forms = [b @ b.T for b in np.moveaxis(a[end - size : end], 2, 0)]
                sums += [[size * (size - 3) * hsic(k, other) for other in forms] for k in forms]
        lengths = np.sqrt(np.diag(sums))
        np.testing.assert_allclose(found[layer], sums / np.outer(lengths, lengths), atol=1e-4)


def test_alignment_does_not_see_where_things_are():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(10, 16, 3))
    a[..., 1] = 2 * a[:, rng.permutation(16), 0] + rng.normal(size=16)
    found = _pairs.cosines(output_similarity._alignments(tf.constant(a)).numpy()[0])
    assert found[0, 1] == pytest.approx(1)
    assert abs(found[0, 2]) < 0.5


def test_alignment_of_too_few_examples_is_an_error(maps):
    model, x, _ = maps
    with pytest.raises(ValueError, match=r"batches of 3: one of 4 examples or more"):
        collect("output_similarity", model, [(x[:3],), (x[3:6],)], similarity="cka")


def test_an_unknown_similarity_is_an_error(maps):
    model, x, _ = maps
    with pytest.raises(ValueError, match=r"'cosin'. Did you mean cosine\? Known: cka, cosine"):
        collect("output_similarity", model, x, similarity="cosin")


def test_constant_maps_are_like_none():
    """One is never active, one always the same; a third the same for all examples."""
    model = keras.Sequential([keras.Input((4, 4, 2)), L.Conv2D(4, 1)])
    kernel = np.zeros((1, 1, 2, 4), "float32")
    kernel[..., 2], kernel[..., 1, 3] = 1, 1
    model.set_weights([kernel, np.array([0, 0.3, 0, 0], "float32")])
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32")
    x[..., 1] = x[0, ..., 1]
    options = [
        ("output_correlation", {}, [0, 0, 1, 1]),
        ("output_similarity", {}, [0, 1, 1, 1]),
        ("output_similarity", {"similarity": "cka"}, [0, 0, 1, 0]),
    ]
    for name, words, alive in options:
        (found,) = collect(name, model, x, **words).values()
        np.testing.assert_allclose(np.diag(found), alive)
        gone = np.flatnonzero(np.array(alive) == 0)
        assert not found[gone].any()
        assert not found[:, gone].any()


def test_all_calls_of_a_layer_count():
    model = randomised(models.nested())
    x, _ = models.images(6)
    rows = np.concatenate([a.reshape(-1, 4) for a in seen(model, x)["conv"]])
    found = collect("output_correlation", model, x)["conv"]
    np.testing.assert_allclose(found, np.corrcoef(rows.T), atol=1e-5)
    several = [a.reshape(6, -1, 4) for a in seen(model, x)["conv"]]
    found = collect("output_independence", model, x)["conv"]
    expected = np.mean([independence(a) for maps in several for a in maps], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("batch", [64, 7])
def test_independence_is_the_fall_of_the_nuclear_norm(maps, batch):
    model, x, expected = maps
    data = tf.data.Dataset.from_tensor_slices(x).batch(batch)
    found = collect("output_independence", model, data, examples=17)
    for layer, a in expected.items():
        values = np.mean([independence(one) for one in a[:17]], axis=0)
        np.testing.assert_allclose(found[layer], values, rtol=1e-4, err_msg=layer)


@pytest.mark.parametrize("shape", [(4, 9), (6, 6), (9, 4), (30, 7), (5, 1), (1, 5), (1, 1)])
def test_independence_of_matrices(shape):
    rng = np.random.default_rng(0)
    positive = np.maximum(rng.normal(size=shape), 0)
    copies = rng.normal(size=shape)
    copies[1:3] = copies[0]
    weak = rng.normal(size=shape)
    weak[1:] *= 1e-4
    weak[2:3] = 0
    line = np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
    a = np.stack([positive, copies, weak, line, np.zeros(shape)])
    found = output_independence._independence(tf.constant(a.swapaxes(1, 2))).numpy()
    for values, one in zip(found, a, strict=True):
        np.testing.assert_allclose(values, independence(one.T), atol=1e-7 * max(nuclear(one), 1e-9))


def test_independence_where_there_is_one_position():
    """A vector's nuclear norm is its length."""
    model = keras.Sequential([keras.Input((3,)), L.Dense(3, use_bias=False)])
    model.set_weights([np.eye(3, dtype="float32")])
    x = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]], "float32")
    (found,) = collect("output_independence", model, x).values()
    np.testing.assert_allclose(found, [0.5, 1, 1], atol=1e-6)  # 5 - 4; 5 - 3; 2 - 0: the means
    with pytest.raises(ValueError, match="examples=0"):
        collect("output_independence", model, x, examples=0)


@pytest.mark.parametrize("kind", ["dense", "conv3d", "conv2d_transpose", "depthwise1d"])
def test_layers_of_other_kinds(kind):
    model, shape = models.kind(kind)
    surgeons.randomise(model)
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype("float32")
    found = collect("output_correlation", model, x)
    for name, several in seen(model, x).items():
        rows = several[0].reshape(-1, several[0].shape[-1])
        np.testing.assert_allclose(found[name], np.corrcoef(rows.T), atol=1e-4)
