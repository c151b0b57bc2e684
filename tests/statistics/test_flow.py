"""Synaptic flow: by hand, conserved from layer to layer, and without a trace in the model."""

import keras
import numpy as np
import pytest

from tests import models, surgeons
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import trace

L = keras.layers


def flow(model, kernels=None):
    kernels = k.find(model)[0] if kernels is None else kernels
    return statistics.collect(["flow"], Calibration(model), kernels, {})["flow"]


def test_by_hand():
    """R = sum |W1| |W2|, biases and activations left out."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            L.Dense(2, activation="relu", bias_initializer="ones", name="a"),
            L.Dense(2, activation="softmax", name="b"),
        ]
    )
    a, b = np.array([[1.0, -2.0], [-3.0, 0.0]]), np.array([[-1.0, 2.0], [1.0, -4.0]])
    model.get_layer("a").kernel.assign(a)
    model.get_layer("b").kernel.assign(b)
    first, second = flow(model).values()
    # A weight of a times what leaves its output; one of b times what enters its input.
    np.testing.assert_allclose(first, np.abs(a) * [3, 5])
    np.testing.assert_allclose(second, np.abs(b) * [[4], [2]])
    assert first.dtype == second.dtype == np.float64


def test_normalisation_scales_and_does_not_shift():
    model = keras.Sequential([keras.Input((4, 1)), L.Conv1D(1, 1), L.BatchNormalization()])
    norm = model.layers[1]
    norm.gamma.assign([-3.0])
    norm.beta.assign([7.0])
    norm.moving_mean.assign([5.0])
    norm.moving_variance.assign([4.0 - norm.epsilon])
    model.layers[0].kernel.assign([[[-2.0]]])
    (found,) = flow(model).values()
    np.testing.assert_allclose(found, 4 * 2 * 3 / 2, rtol=1e-6)


PLAIN = [kind for kind in models.KINDS if kind not in ("embedding",)]


@pytest.mark.parametrize("kind", PLAIN)
def test_what_flows_into_a_layer_flows_out_of_it(kind):
    model, _ = models.kind(kind)
    kernels, _ = k.find(model)
    sums = [value.sum() for value in flow(model).values()]
    refused = [x for x in kernels if statistics.refusal(["flow"], x)]
    assert len(sums) + len(refused) == len(kernels)
    assert sums[0] > 0
    np.testing.assert_allclose(sums, sums[0], rtol=1e-9)


@pytest.mark.parametrize("kind", ["lstm", "gru", "simple_rnn", "embedding"])
def test_what_hides_its_flow_is_refused(kind):
    model, _ = models.kind(kind)
    first = k.find(model)[0][0]
    assert statistics.refusal(["flow"], first)
    assert first.name not in flow(model)


@pytest.mark.parametrize("make", [models.cnn, models.nested, models.subclassed])
def test_the_model_is_as_it_was(make):
    model = make()
    surgeons.randomise(model)
    x, _ = models.images(2)

    def state():
        layers = trace.layers(model)
        return [(x.dtype_policy.name, getattr(x, "activation", None)) for x in layers]

    before, outputs, states = model.get_weights(), model(x).numpy(), state()
    assert flow(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert state() == states
    np.testing.assert_array_equal(model(x), outputs)
    assert model(x).dtype == "float32"


def deep(inner):
    """Returns a network whose R is beyond float32, as a nested model and a graph with ops."""
    x = keras.Input((4, 4, 8))
    y = x
    for _ in range(inner):
        y = L.DepthwiseConv2D(3, padding="same")(L.Conv2D(8, 1)(y))
        y = keras.ops.relu(L.BatchNormalization()(y)) + y
    y = L.MaxPooling2D(2)(y)
    y = L.Dense(3)(L.GlobalAveragePooling2D()(y))
    model = keras.Model(x, y)
    outer = keras.Input((4, 4, 8))
    nested = keras.Sequential([keras.Input((4, 4, 8)), L.Conv2D(8, 1, activation="tanh")])
    return keras.Model(outer, model(nested(outer) * 1e25))


def test_numbers_beyond_float32_pass_everywhere():
    model = deep(3)
    for weight in model.weights:
        if weight.name in ("kernel", "gamma"):
            weight.assign(weight * 1e5)
    found = flow(model)
    assert max(value.max() for value in found.values()) > 1e40
    last, first = found.popitem()[1], next(iter(found.values()))
    # The first and the last layer carry all of it; float32 would leave 7 digits.
    np.testing.assert_allclose(first.sum(), last.sum(), rtol=1e-12)


def test_weights_are_read_anew_without_tracing_again(monkeypatch):
    model = models.cnn()
    kernels, calibration = k.find(model)[0], Calibration(model)

    def found():
        return statistics.collect(["flow"], calibration, kernels, {})["flow"]

    first = found()
    kernels[0].variable.assign(2 * kernels[0].variable)
    monkeypatch.setattr(type(model), "call", None)  # it is not called any more
    for name, value in found().items():
        np.testing.assert_allclose(value, 2 * first[name], rtol=1e-12)


def test_a_signal_that_is_stopped_names_the_layer():
    x = keras.Input((4,))
    hidden = L.Dense(3, name="hidden")
    model = keras.Model(x, keras.ops.softmax(L.Dense(2, name="head")(hidden(x))))
    hidden.kernel.assign(np.full((4, 3), 0.5))
    model.get_layer("head").kernel.assign(np.full((3, 2), 0.25))
    with pytest.raises(ValueError, match=r"'hidden'.*nothing flows"):
        flow(model)


def test_an_open_input_size_is_an_error():
    model = keras.Sequential([keras.Input((None, 3)), L.Conv1D(2, 1)])
    with pytest.raises(ValueError, match="input size open"):
        flow(model)
