"""A layer as a matrix product: patches @ matrix(weight) + bias is what the layer computes."""

import keras
import numpy as np
import pytest

from tests import surgeons
from tfprune import linalg
from tfprune.graph import kernels as k
from tfprune.graph import taps

L = keras.layers
CONVOLUTIONS = [
    ((11, 4), L.Conv1D, (6, 3), {}),
    ((11, 4), L.Conv1D, (6, 4), {"groups": 2}),
    ((9, 8, 4), L.Conv2D, (6, (3, 2)), {}),
    ((9, 8, 4), L.Conv2D, (6, 3), {"groups": 2}),
    ((5, 7, 6, 2), L.Conv3D, (4, 2), {}),
    ((11, 4), L.DepthwiseConv1D, (3,), {"depth_multiplier": 2}),
    ((9, 8, 4), L.DepthwiseConv2D, (3,), {"depth_multiplier": 3}),
]
EQUATIONS = [
    ("ab,bc->ac", (6,), 3),
    ("abc,cd->abd", (4, 6), (None, 3)),
    ("abc,cd->adb", (4, 6), (3, 4)),
    ("abc,cde->abde", (4, 6), (None, 3, 2)),  # queries of attention
    ("abcd,cde->abe", (4, 3, 2), (None, 5)),  # and its output
    ("abc,bd->acd", (4, 6), (6, 3)),
    ("...x,xy->...y", (4, 6), (4, 3)),
    ("ab...,bc->ac...", (6, 4), (3, 4)),
]


def alone(layer, shape):
    """Returns a model of this layer with random weights, and its kernel."""
    model = keras.Sequential([keras.Input(shape), layer])
    surgeons.randomise(model)
    return model, k.find(model)[0][0]


def check(layer, shape):
    model, kernel = alone(layer, shape)
    assert not taps.refuses(kernel)
    seen = []
    with taps.tapped([kernel], lambda kernel, x, z: seen.append((x, z)) or z):
        result = model(surgeons.inputs(model, n=3))
    ((x, z),) = seen
    np.testing.assert_array_equal(layer.activation(z), result)
    rows, weight = taps.patches(kernel, x), taps.matrix(kernel, kernel.read())
    linear = taps.outputs(kernel, z if layer.bias is None else z - layer.bias)
    product = np.einsum("npgk,gko->npgo", rows, weight)
    np.testing.assert_allclose(product, linear, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(taps.unmatrix(kernel, weight), kernel.read())
    # Without a kernel, a Gram matrix says the groups.
    np.testing.assert_array_equal(linalg.matrix(kernel.read(), taps.groups(kernel)), weight)
    np.testing.assert_array_equal(linalg.unmatrix(np.asarray(weight), kernel.shape), kernel.read())


@pytest.mark.parametrize(
    ("strides", "padding", "dilation_rate"),
    [
        (1, "same", 1),
        (1, "valid", 1),
        (2, "same", 1),
        (2, "valid", 1),
        (3, "same", 1),
        (1, "same", 2),
        (1, "valid", 2),
    ],
)
@pytest.mark.parametrize(("shape", "kind", "args", "more"), CONVOLUTIONS)
def test_convolutions(shape, kind, args, more, strides, padding, dilation_rate):
    layer = kind(
        *args,
        strides=strides,
        padding=padding,
        dilation_rate=dilation_rate,
        activation="tanh",
        **more,
    )
    check(layer, shape)


@pytest.mark.parametrize(("strides", "dilation_rate"), [(1, 1), (2, 1), (1, 3)])
def test_causal_convolutions(strides, dilation_rate):
    layer = L.Conv1D(5, 3, strides=strides, padding="causal", dilation_rate=dilation_rate)
    check(layer, (11, 4))


def test_a_stride_longer_than_the_window():
    check(L.Conv2D(5, 1, strides=2, use_bias=False), (7, 8, 4))
    check(L.Conv2D(5, 2, strides=3, padding="same"), (7, 8, 4))


def test_strides_that_differ():
    check(L.Conv2D(5, 3, strides=(1, 2), padding="same"), (7, 8, 4))


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6)])
def test_dense(shape):
    check(L.Dense(4, activation="relu"), shape)


@pytest.mark.parametrize(("equation", "shape", "result"), EQUATIONS)
def test_einsum(equation, shape, result):
    axis = equation.partition("->")[0][-1]
    check(L.EinsumDense(equation, result, bias_axes=axis, activation="tanh"), shape)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (L.EinsumDense("abc,bcd->abd", (4, 3)), (4, 6), "own matrix for each place"),
        (L.Conv2DTranspose(3, 2), (5, 5, 2), "Conv2DTranspose layer multiplies can't be seen"),
        (L.Embedding(5, 2), (3,), "Embedding"),
        (L.Conv2D(3, 2, data_format="channels_first"), (2, 5, 5), "channels_first"),
    ],
)
def test_what_is_no_such_product_is_refused(layer, shape, reason):
    model = keras.Sequential([keras.Input(shape), layer])
    assert reason in taps.refuses(k.find(model)[0][0])


def test_a_layer_with_its_own_call_is_refused():
    class Twice(L.Dense):
        def call(self, x):
            return 2 * super().call(x)

    assert "Twice" in taps.refuses(alone(Twice(3), (4,))[1])


def test_what_is_seen_can_be_replaced():
    model, kernel = alone(L.Dense(3, activation="relu"), (4,))
    with taps.tapped([kernel], lambda kernel, x, z: z * 0 - 1):
        assert not np.any(model(surgeons.inputs(model)))
    assert model.layers[0].activation is keras.activations.relu
