"""a dL/da of feature maps, by hand."""

import keras
import numpy as np
import pytest

from tests import models
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k

L = keras.layers


def collect(model, data):
    kernels = k.find(model)[0]
    return statistics.collect(["output_taylor"], Calibration(model, data), kernels, {})[
        "output_taylor"
    ]


def test_by_hand_behind_the_activation():
    """With L = (mean over positions and channels of a v - y)^2, dL/da is 2 (out - y) v / P."""
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            L.Conv1D(4, 2, name="conv"),
            L.BatchNormalization(),
            L.ReLU(name="relu"),
            L.GlobalAveragePooling1D(),
            L.Dense(1, name="head"),
        ]
    )
    model.compile(loss="mse")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 5, 3)).astype("float32"), rng.normal(size=(6, 1))
    a = keras.Model(model.inputs, model.get_layer("relu").output)(x).numpy()
    out = model(x).numpy()
    slope = 2 * (out - y) * model.get_layer("head").kernel.numpy()[:, 0] / 4
    conv, head = collect(model, (x, y)).values()
    np.testing.assert_allclose(conv, np.abs((a * slope[:, None]).mean(1)).mean(0), rtol=1e-4)
    np.testing.assert_allclose(head, np.abs(out * 2 * (out - y)).mean(0), rtol=1e-4)


def test_of_a_softmax_that_the_loss_computes_it_is_of_the_logits():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="softmax", name="head")])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)).astype("float32"), rng.integers(0, 3, 5)
    z = x @ model.layers[0].kernel.numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    (found,) = collect(model, (x, y)).values()
    np.testing.assert_allclose(found, np.abs(z * (p - np.eye(3)[y])).mean(0), rtol=1e-4)


@pytest.mark.parametrize(
    "kind", ["conv2d_grouped", "depthwise2d", "conv1d_transpose", "separable1d"]
)
def test_kinds_have_one_value_an_output(kind):
    model, shape = models.kind(kind)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(3, *shape)).astype("float32"), rng.integers(0, 10, 3)
    found = collect(model, data)
    able = [x for x in k.find(model)[0] if not statistics.refusal(["output_taylor"], x)]
    assert len(able) == 2
    for kernel in able:
        assert found[kernel.name].shape == kernel.shape[-1:]
        assert (found[kernel.name] > 0).any()
