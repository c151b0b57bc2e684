"""What each weight multiplies, against windows cut by hand and as matrices."""

import keras
import numpy as np
import pytest

from tests import models
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import taps

L = keras.layers


def collect(name, model, x):
    return statistics.collect([name], Calibration(model, x), k.find(model)[0], {})[name]


def test_of_a_dense_layer():
    model = keras.Sequential([keras.Input((2,)), L.Dense(3, activation="relu", name="only")])
    x = np.array([[1.0, -2.0], [3.0, 4.0]], "float32")
    (found,) = collect("input_abs", model, x).values()
    np.testing.assert_allclose(found, [[2] * 3, [3] * 3])
    (found,) = collect("input_norm", model, x).values()
    np.testing.assert_allclose(found, [[5**0.5] * 3, [10**0.5] * 3], rtol=1e-6)


def test_of_a_strided_convolution_with_padding():
    model = keras.Sequential([keras.Input((5, 2)), L.Conv1D(3, 3, strides=2, padding="same")])
    x = np.random.default_rng(0).normal(size=(4, 5, 2)).astype("float32")
    padded = np.pad(np.abs(x), [(0, 0), (1, 1), (0, 0)])
    expected = np.stack([padded[:, i : i + 5 : 2].sum(axis=1).mean(axis=0) for i in range(3)])
    (found,) = collect("input_abs", model, x).values()
    np.testing.assert_allclose(found, np.stack([expected] * 3, axis=-1), rtol=1e-6)


# A TimeDistributed wrapper does not call the layer inside.
@pytest.mark.parametrize("name", [name for name in models.KINDS if name != "time_distributed"])
def test_of_all_kinds_it_is_the_diagonal_of_the_gram_matrix(name):
    model, shape = models.kind(name)
    x = np.random.default_rng(0).integers(0, 5, (6, *shape)).astype("float32")
    grams, norms = collect("gram", model, x), collect("input_norm", model, x)
    assert grams.keys() == norms.keys()
    for kernel in k.find(model)[0]:
        if kernel.name in grams:
            norm = np.moveaxis(taps.matrix(kernel, norms[kernel.name]), -1, 0)
            diagonal = np.sqrt(np.einsum("gii->gi", grams[kernel.name]))
            np.testing.assert_allclose(norm, [diagonal] * len(norm), rtol=1e-4, atol=1e-5)


def test_activations_are_as_before():
    model = models.cnn()
    x, _ = models.images(8)
    before = model.predict(x, verbose=0)
    collect("input_norm", model, x)
    np.testing.assert_array_equal(before, model.predict(x, verbose=0))
    assert model.get_layer("head").activation is keras.activations.softmax
