"""MACs against hand counts, published totals and TensorFlow's own profiler."""

import keras
import pytest
import tensorflow as tf

from tests import models
from tfprune.graph import kernels as k
from tfprune.graph import macs, trace

L = keras.layers


def profiled(model):
    """Half of what TensorFlow counts as floating-point operations of products."""
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        trace.example_spec(model)
    )
    names = ["MatMul", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "Einsum", "BatchMatMulV2"]
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    options["account_type_regexes"] = names
    return tf.compat.v1.profiler.profile(function.graph, options=options).total_float_ops // 2


@pytest.mark.parametrize(
    "name",
    ["MobileNetV2", "VGG16", "ResNet50V2", pytest.param("DenseNet121", marks=pytest.mark.slow)],
)
def test_as_the_profiler_of_tensorflow_counts(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    assert macs.total(model) == profiled(model)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (L.Dense(7), (5,), 5 * 7),
        (L.Dense(7), (3, 5), 3 * 5 * 7),
        (L.Conv2D(8, 3, padding="valid"), (10, 10, 4), 8 * 8 * 9 * 4 * 8),
        (L.Conv2D(8, 3, strides=2, padding="same"), (9, 9, 4), 5 * 5 * 9 * 4 * 8),
        (L.Conv2D(8, 3, groups=4), (10, 10, 4), 8 * 8 * 9 * 1 * 8),
        (L.Conv2D(8, 3, dilation_rate=2), (10, 10, 4), 6 * 6 * 9 * 4 * 8),
        (L.DepthwiseConv2D(3, depth_multiplier=2), (10, 10, 4), 8 * 8 * 9 * 8),
        (L.SeparableConv2D(6, 3), (10, 10, 4), 8 * 8 * (9 * 4 + 4 * 6)),
        (L.Conv2DTranspose(6, 3, strides=2), (5, 5, 4), 5 * 5 * 9 * 4 * 6),
        (L.Conv1D(6, 3), (10, 4), 8 * 3 * 4 * 6),
        (L.Conv3D(2, 3), (5, 5, 5, 3), 27 * 27 * 3 * 2),
        (L.LSTM(6), (7, 5), 7 * (5 + 6) * 4 * 6),
        (L.GRU(6), (7, 5), 7 * (5 + 6) * 3 * 6),
        (L.Bidirectional(L.SimpleRNN(6)), (7, 5), 2 * 7 * (5 + 6) * 6),
        (L.EinsumDense("abc,cde->abde", (None, 2, 3)), (7, 5), 7 * 5 * 2 * 3),
        (L.TimeDistributed(L.Dense(6)), (7, 5), 7 * 5 * 6),
    ],
)
def test_by_hand(layer, shape, expected):
    assert macs.total(keras.Sequential([keras.Input(shape), layer])) == expected


def test_attention_counts_its_own_products():
    x = keras.Input((6, 8))
    model = keras.Model(x, L.MultiHeadAttention(2, 4)(x, x))
    projections = 4 * 6 * 8 * 8
    assert macs.total(model) == projections + 2 * 6 * 6 * 2 * 4


def test_a_layer_called_twice_counts_twice():
    model = models.nested()
    kernels, _ = k.find(model)
    assert macs.positions(model, kernels) == {"block/conv/kernel": 2 * 8 * 8, "head/kernel": 1}


def test_subclassed_models_are_counted_like_functional_ones():
    assert macs.total(models.subclassed()) == 6 * 6 * 9 * 4 * 8 + 8 * 10


def test_an_open_input_size_is_asked_for():
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3)])
    with pytest.raises(ValueError, match="input size open"):
        macs.total(model)
    assert macs.total(model, (8, 8, 3)) == 6 * 6 * 9 * 3 * 4
