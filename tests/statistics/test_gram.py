"""Gram matrices against the patches laid out in NumPy, and what they are for."""

import logging

import keras
import numpy as np
import pytest

from tests import models, surgeons
from tfprune import linalg, statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import taps

L = keras.layers

LAYERS = {
    "dense": (L.Dense(3), (5,)),
    "dense of a series": (L.Dense(3), (7, 5)),
    "einsum": (L.EinsumDense("abc,cd->abd", (None, 3)), (7, 5)),
    "convolution": (L.Conv2D(6, (3, 2), strides=2, padding="same"), (7, 8, 3)),
    "groups": (L.Conv2D(6, 2, groups=2), (7, 8, 4)),
    "depthwise": (L.DepthwiseConv2D(3, strides=2, depth_multiplier=2), (7, 8, 3)),
    "volume": (L.Conv3D(3, 2), (4, 5, 3, 2)),
}


def gram(model, x):
    return statistics.collect(["gram"], Calibration(model, x), k.find(model)[0], {})["gram"]


@pytest.mark.parametrize("name", LAYERS)
def test_sum_over_positions_mean_over_examples(name):
    layer, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), layer])
    surgeons.randomise(model)
    x = surgeons.inputs(model, n=70)  # more than a step takes
    (kernel,) = k.find(model)[0]
    found = gram(model, x)[kernel.name]
    rows = np.asarray(taps.patches(kernel, x), np.float64)
    np.testing.assert_allclose(found, np.einsum("npgk,npgl->gkl", rows, rows) / 70, 1e-4, 1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_its_quadratic_form_is_the_change_of_the_output(name):
    layer, shape = LAYERS[name]
    model = keras.Sequential([keras.Input(shape), layer])
    surgeons.randomise(model)
    x = surgeons.inputs(model, n=9)
    (kernel,) = k.find(model)[0]
    form = gram(model, x)[kernel.name]
    before, weight = model(x).numpy(), kernel.read()
    change = np.random.default_rng(1).normal(0, 0.1, weight.shape)
    kernel.variable.assign(kernel.restore(weight + change))
    parts = linalg.matrix(change, len(form))
    expected = np.square(model(x) - before).sum() / 9
    found = np.einsum("gko,gkl,glo->", parts, form, parts)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_layer_that_is_used_twice_counts_twice():
    layer = L.Dense(4, use_bias=False)
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], layer(a) + layer(b))
    x = surgeons.inputs(model, n=6)
    (found,) = gram(model, x).values()
    np.testing.assert_allclose(found[0], sum(v.T @ v for v in x) / 6, rtol=1e-4)


def test_nothing_changes():
    model = models.cnn()
    before = model.get_weights()
    gram(model, models.images()[0])
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def warned(x, caplog):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="first")])
    with caplog.at_level(logging.WARNING, "tfprune"):
        gram(model, x.astype("float32"))
    return [r.getMessage() for r in caplog.records if r.name == "tfprune"]


def test_a_singular_matrix_is_named(caplog):
    x = np.random.default_rng(0).normal(size=(50, 4))
    assert warned(x, caplog) == []
    x[:, 1] = 0
    (message,) = warned(x, caplog)
    assert "1 Gram matrices are singular" in message
    assert "first (1 of 4 inputs are never active)" in message


@pytest.mark.parametrize("case", ["one example", "inputs that are sums of others"])
def test_a_singular_matrix_without_dead_inputs_is_named(case, caplog):
    x = np.random.default_rng(0).normal(size=(1 if case == "one example" else 50, 4))
    x[:, 3] = x[:, 0] - x[:, 1]
    (message,) = warned(x, caplog)
    assert "first (inputs depend on each other)" in message
