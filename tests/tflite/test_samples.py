"""Samples are gathered in the model's own structure and types."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.tflite.samples import collect, random_inputs


def net():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


def test_a_limit_spreads_over_arrays_and_stops_batches():
    x = np.arange(300.0).reshape(100, 3)
    spread = collect((x, np.arange(100)), net(), limit=5)
    np.testing.assert_array_equal(spread.labels, [0, 24, 49, 74, 99])
    np.testing.assert_array_equal(spread.inputs, x[spread.labels])
    batches = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    first = collect(batches, net(), limit=6)
    np.testing.assert_array_equal(first.inputs, x[:6])
    assert first.labels is None


def test_types_are_those_of_the_inputs():
    assert collect(np.zeros((2, 3), "float64"), net()).inputs.dtype == np.float32
    assert collect(np.zeros((2, 3), "uint8"), net()).inputs.dtype == np.float32
    tokens = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(5, 2)])
    assert collect(np.zeros((2, 3), "int64"), tokens).inputs.dtype == np.int32
    assert set(np.unique(random_inputs(tokens).inputs)) == {0, 1}


def test_random_inputs_have_the_models_structure():
    parts = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    model = keras.Model(parts, keras.layers.Concatenate()([parts["a"], parts["b"]]))
    inputs = random_inputs(model, count=4).inputs
    assert {name: part.shape for name, part in inputs.items()} == {"a": (4, 3), "b": (4, 2)}


def test_no_samples_are_an_error():
    with pytest.raises(ValueError, match="no samples"):
        collect(tf.data.Dataset.from_tensor_slices(np.zeros((0, 3))).batch(2), net())


@pytest.mark.parametrize("shape", [(9, 9, 3), (8, 8, 1), (8, 8), (192,)])
def test_samples_of_another_shape_name_both(shape):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"takes samples of shape \(8, 8, 3\), the data has \("):
        collect(np.zeros((5, *shape), "float32"), model)


def test_open_sizes_and_a_channel_that_goes_without_saying_fit():
    model = keras.Sequential([keras.Input((None, 8, 1)), keras.layers.Flatten()])
    for shape in ((5, 8, 1), (7, 8)):
        assert collect(np.zeros((3, *shape), "float32"), model).inputs.shape == (3, *shape)
