"""Gradients and Hessians against closed forms, finite differences, and one example at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import models
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.statistics import grad_batches

L = keras.layers


def collect(name, model, data, kernels=None, **options):
    kernels = k.find(model)[0] if kernels is None else kernels
    return statistics.collect([name], Calibration(model, data), kernels, options)[name]


def softmax_regression(n=12, inputs=4, classes=3):
    """Returns a model whose loss is convex, its data, and what is known of it in closed form."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, inputs)).astype("float32"), rng.integers(0, classes, n)
    model = keras.Sequential([keras.Input((inputs,)), L.Dense(classes, activation="softmax")])
    w = rng.normal(size=(inputs, classes))
    model.layers[0].kernel.assign(w)
    scores = x.astype(float) @ w
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    gradients = np.einsum("ni,nc->nic", x, p - np.eye(classes)[y])
    within = np.einsum("nc,cd->ncd", p, np.eye(classes)) - np.einsum("nc,nd->ncd", p, p)
    hessian = np.einsum("ni,nj,ncd->icjd", x, x, within) / n
    return model, (x, y), gradients, hessian


def smooth(seed=0):
    """Returns a two-layer network that is smooth in its weights, and data."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [keras.Input((3, 2)), L.Conv1D(2, 2, activation="tanh"), L.Flatten(), L.Dense(2)]
    )
    model.compile(loss="mse")
    rng = np.random.default_rng(seed)
    return model, (rng.normal(size=(6, 3, 2)), rng.normal(size=(6, 2)))


def differences(kernel, value, step):
    """Returns the central differences of `value()` in each weight of a kernel, stacked."""
    before = kernel.variable.numpy()
    result = []
    for index in np.ndindex(before.shape):
        ends = []
        for sign in (1, -1):
            moved = before.copy()
            moved[index] += sign * step
            kernel.variable.assign(moved)
            ends.append(value())
        result.append((ends[0] - ends[1]) / (2 * step))
    kernel.variable.assign(before)
    return np.stack(result)


def data_of(model, shape, n=2):
    rng = np.random.default_rng(1)
    whole = keras.tree.flatten(model.inputs)[0].dtype == "int32"
    x = rng.integers(0, 12, (n, *shape)) if whole else rng.normal(size=(n, *shape))
    return x.astype("int32" if whole else "float32"), rng.integers(0, 10, n)


def test_gradient_and_hessian_of_softmax_regression():
    model, data, gradients, hessian = softmax_regression()
    g = gradients.mean(0)
    (found,) = collect("grad", model, data).values()
    np.testing.assert_allclose(found, g, rtol=1e-5, atol=1e-6)
    (found,) = collect("grad_sq", model, data).values()
    np.testing.assert_allclose(found, np.square(gradients).mean(0), rtol=1e-5, atol=1e-6)
    (found,) = collect("hessian_grad", model, data).values()
    expected = np.einsum("icjd,jd->ic", hessian, g)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_hutchinson_comes_near_the_diagonal_of_the_hessian():
    model, data, _, hessian = softmax_regression()
    diagonal = np.einsum("icic->ic", hessian)
    (few,) = collect("hessian_diag", model, data, probes=4).values()
    # Each batch has signs of its own: the same one 250 times is a thousand probes.
    (many,) = collect("hessian_diag", model, [data] * 250, probes=4).values()
    # The variance of one probe is the sum of the squares beside the diagonal.
    matrix = hessian.reshape(12, 12)
    spread = np.sqrt(np.square(matrix).sum(1) - np.diag(matrix) ** 2).reshape(4, 3)
    assert (np.abs(many - diagonal) < 5 * spread / np.sqrt(1000)).all()
    assert np.abs(many - diagonal).mean() < np.abs(few - diagonal).mean()


def test_hutchinson_follows_the_seed():
    model, data, _, _ = softmax_regression()
    kernels = k.find(model)[0]

    def found(seed):
        calibration = Calibration(model, data, seed=seed)
        (value,) = statistics.collect(["hessian_diag"], calibration, kernels, {})[
            "hessian_diag"
        ].values()
        return value

    np.testing.assert_array_equal(found(1), found(1))
    assert np.any(found(1) != found(2))
    with pytest.raises(ValueError, match="probes=0"):
        collect("hessian_diag", model, data, probes=0)


def test_gradient_by_finite_differences():
    model, (x, y) = smooth()
    found = collect("grad", model, (x, y))

    def loss():
        return np.square(model(x).numpy().astype(float) - y).mean()

    for kernel in k.find(model)[0]:
        expected = differences(kernel, loss, 1e-2).reshape(kernel.shape)
        np.testing.assert_allclose(found[kernel.name], expected, rtol=2e-3, atol=2e-4)


def test_hessian_by_finite_differences_of_the_gradient():
    model, (x, y) = smooth()
    kernels = k.find(model)[0]
    variables = [kernel.variable.value for kernel in kernels]

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x) - y))
        return np.concatenate([np.ravel(g) for g in tape.gradient(loss, variables)])

    hessian = np.concatenate([differences(kernel, gradients, 1e-2) for kernel in kernels])
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-3)
    expected = hessian @ gradients()
    found = np.concatenate([v.ravel() for v in collect("hessian_grad", model, (x, y)).values()])
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("kind", models.KINDS)
def test_squares_of_single_gradients(kind):
    model, shape = models.kind(kind)
    x, y = data_of(model, shape)
    found = collect("grad_sq", model, (x, y))
    each = [collect("grad", model, (x[i : i + 1], y[i : i + 1])) for i in range(len(x))]
    assert set(found) == set(each[0])
    for name, value in found.items():
        expected = np.mean([np.square(g[name]) for g in each], axis=0)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_squares_where_a_layer_is_called_twice_and_where_it_has_one_position():
    model = models.nested()
    x, y = models.images(3)
    found = collect("grad_sq", model, (x, y))
    each = [collect("grad", model, (x[i : i + 1], y[i : i + 1])) for i in range(3)]
    for name, value in found.items():
        expected = np.mean([np.square(g[name]) for g in each], axis=0)
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6 * expected.max())


def test_batches_of_another_size_at_the_end_count_by_their_examples():
    model, (x, y), gradients, _ = softmax_regression()
    batches = [(x[:5], y[:5]), (x[5:10], y[5:10]), (x[10:], y[10:])]
    for name, expected in (("grad", gradients), ("grad_sq", np.square(gradients))):
        (found,) = collect(name, model, batches).values()
        np.testing.assert_allclose(found, expected.mean(0), rtol=1e-5, atol=1e-6)


def test_gradients_of_batches(monkeypatch):
    model, (x, y), gradients, _ = softmax_regression()
    batches = [(x[i : i + 4], y[i : i + 4]) for i in (0, 4, 8)]
    (found,) = collect("grad_batches", model, batches).values()
    assert found.shape == (3, 4, 3)
    parts = gradients.reshape(3, 4, 4, 3).mean(1)
    expected = np.square(parts).mean(0)
    np.testing.assert_allclose(np.square(found).sum(0), expected, rtol=1e-5, atol=1e-6)

    # Of more batches than parts, the first and the third go together.
    monkeypatch.setattr(grad_batches, "PARTS", 2)
    (found,) = collect("grad_batches", model, batches).values()
    joint = (parts[0] + parts[2]) / 2
    expected = (2 * np.square(joint) + np.square(parts[1])) / 3
    np.testing.assert_allclose(np.square(found).sum(0), expected, rtol=1e-5, atol=1e-6)


def test_a_hessian_is_of_the_kernels_that_are_asked_for():
    model, data = smooth()
    last = k.find(model)[0][-1:]
    whole = collect("hessian_grad", model, data)
    (own,) = collect("hessian_grad", model, data, last).values()
    assert not np.allclose(own, whole[last[0].name])
