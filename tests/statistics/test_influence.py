"""Importance of neurons, back from the final responses: matrices by hand, paths one by one."""

import keras
import numpy as np
import scipy.stats

from tests import models, surgeons
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import trace as tracing
from tfprune.statistics.influence import infinite_selection

L = keras.layers


def influence(model, x):
    kernels = k.find(model)[0]
    found = statistics.collect(["influence"], Calibration(model, x), kernels, {})["influence"]
    return {x.layer.name: found[x.name] for x in kernels if x.name in found}


def test_infinite_selection_adds_up_all_paths():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6)) ** 3
    spread = features.std(axis=0)
    spread = (spread - spread.min()) / (spread.max() - spread.min())
    unlike = 1 - np.abs(scipy.stats.spearmanr(features).statistic)
    graph = 0.5 * np.maximum(spread[:, None], spread) + 0.5 * unlike
    graph *= 0.9 / np.abs(np.linalg.eigvals(graph)).max()
    paths = sum(np.linalg.matrix_power(graph, length) for length in range(1, 400))
    np.testing.assert_allclose(infinite_selection(features), paths.sum(axis=1))


def test_infinite_selection_of_features_that_do_not_change():
    features = np.random.default_rng(0).normal(size=(50, 4))
    features[:, 2] = 1
    found = infinite_selection(features)
    assert found.argmin() == 2
    np.testing.assert_allclose(infinite_selection(np.ones((5, 3))), [9, 9, 9])


def test_scores_go_back_through_magnitudes():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            L.Dense(6, activation="relu", name="first"),
            L.Dense(4, name="second"),
            L.BatchNormalization(name="norm"),
            L.Activation("tanh"),
            L.Dense(3, activation="softmax", name="head"),
        ]
    )
    surgeons.randomise(model)
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    responses = keras.Model(model.inputs, model.layers[-2].output).predict(x, verbose=0)
    s = infinite_selection(responses)
    found = influence(model, x)
    np.testing.assert_allclose(found["second"], s)
    norm = model.get_layer("norm")
    scale = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    weights = np.abs(model.get_layer("second").kernel.numpy()) * scale
    np.testing.assert_allclose(found["first"], weights @ s, rtol=1e-6)
    np.testing.assert_allclose(found["head"], [s.sum()] * 3)


def test_a_channel_adds_up_its_neurons_along_all_branches():
    x = keras.Input((6, 6, 2))
    y = L.Conv2D(3, 1, activation="relu", name="early")(x)
    z = L.Conv2D(3, 3, padding="same", use_bias=False, name="late")(y)
    z = L.GlobalAveragePooling2D()(L.ReLU()(L.Add()([y, z])))
    model = keras.Model(x, L.Dense(2, name="head")(z))
    surgeons.randomise(model)
    data = np.random.default_rng(0).normal(size=(40, 6, 6, 2)).astype("float32")
    s = infinite_selection(keras.Model(x, z).predict(data, verbose=0))
    found = influence(model, data)
    np.testing.assert_allclose(found["late"], s)  # 36 places, each a 36th of the mean
    late = model.get_layer("late")
    late.kernel.assign(np.abs(late.kernel.numpy()))
    for channel, value in enumerate(found["early"]):
        one = np.zeros((1, 6, 6, 3), "float32")
        one[..., channel] = 1
        through = (one + late(one)).numpy().mean((0, 1, 2))
        np.testing.assert_allclose(value, through @ s, rtol=1e-5)


def test_of_all_kinds_of_models():
    kinds = ("embedding", "separable2d", "conv2d_transpose", "lstm")
    made = [make() for make in (models.cnn, models.nested, models.subclassed)]
    for model in (*made, *(models.kind(name)[0] for name in kinds)):
        surgeons.randomise(model)
        before = model.get_weights()
        shape = tracing.example_spec(model).shape[1:]
        x = np.random.default_rng(0).integers(0, 5, (16, *shape)).astype("float32")
        for name, value in influence(model, x).items():
            assert (value > 0).all(), name
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
