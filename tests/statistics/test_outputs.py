"""Feature maps and what is counted of them, against models that return the maps themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import models, surgeons
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.statistics import _outputs

L = keras.layers


def residual():
    """Two branches that are added, each map with another way to its reader."""
    x = keras.Input((8, 8, 4))
    y = L.Conv2D(6, 3, padding="same", name="first")(x)
    y = L.ReLU(name="first_map")(L.BatchNormalization()(y))
    z = L.Conv2D(6, 3, padding="same", name="second")(y)
    z = L.Dropout(0.5)(L.BatchNormalization()(z))
    z = L.Activation("relu", name="added_map")(L.Add()([z, y]))
    z = L.Conv2D(5, 3, activation="relu", name="own_map")(z)
    z = L.Conv2D(4, 3, name="linear")(L.BatchNormalization()(z))
    z = L.BatchNormalization(name="linear_map")(z)
    z = L.Flatten()(z)
    return keras.Model(x, L.Dense(10, activation="softmax", name="head")(z))


RESIDUAL = {
    "first": "first_map",
    "second": "added_map",
    "own_map": "own_map",
    "linear": "linear_map",
    "head": "head",
}


def randomised(model):
    surgeons.randomise(model)
    return model


def kernels(model):
    return k.find(model)[0]


def collect(name, model, x, **options):
    calibration = Calibration(model, x)
    found = statistics.collect([name], calibration, kernels(model), options)[name]
    return {kernel.layer.name: found[kernel.name] for kernel in kernels(model)}


def seen(model, x):
    """Returns {layer name: its feature maps}, as arrays."""
    with _outputs.maps(kernels(model)) as found:
        model(x, training=False)
    by_name = {kernel.name: kernel.layer.name for kernel in kernels(model)}
    return {by_name[name]: [a.numpy() for a in maps] for name, maps in found.items()}


def test_maps_are_taken_behind_the_activation():
    model = randomised(residual())
    x, _ = models.images(3)
    found = seen(model, x)
    for layer, at in RESIDUAL.items():
        expected = keras.Model(model.input, model.get_layer(at).output)(x)
        (one,) = found[layer]
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6, err_msg=layer)


def test_maps_of_a_model_in_a_model_that_is_used_twice():
    model = randomised(models.nested())
    x, _ = models.images(3)
    block = model.get_layer("block")
    first, second = seen(model, x)["conv"]
    added = block(x) + x  # the addition follows the first call, a Flatten the second
    np.testing.assert_allclose(first, added, rtol=1e-5)
    np.testing.assert_allclose(second, block(added), rtol=1e-5)
    found = collect("output_abs", model, x)["conv"]
    expected = np.abs(np.concatenate([first, second])).mean((0, 1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_maps_of_a_subclassed_model_end_where_no_layer_reads_them():
    model = randomised(models.subclassed())
    x, _ = models.images(3)
    (found,) = seen(model, x)["conv"]
    np.testing.assert_allclose(found, model.norm(model.conv(x)), rtol=1e-5, atol=1e-6)


def test_a_gate_that_reads_a_map_ends_it():
    x = keras.Input((4, 4, 3))
    y = L.Conv2D(5, 1, name="conv")(x)
    gate = L.Dense(5, activation="sigmoid", name="gate")(L.GlobalAveragePooling2D(keepdims=True)(y))
    model = keras.Model(x, L.Flatten()(L.Multiply()([y, gate])))
    found = seen(model, np.ones((2, 4, 4, 3), "float32"))
    assert found["conv"][0].shape == (2, 4, 4, 5)
    assert found["gate"][0].shape == (2, 1, 1, 5)


@pytest.mark.parametrize("name", models.KINDS)
def test_all_kinds_have_one_channel_for_each_output_or_a_reason(name):
    model, shape = models.kind(name)
    x = np.random.default_rng(0).integers(0, 5, (4, *shape)).astype("float32")
    everything = kernels(model)
    with _outputs.maps(everything) as found:
        model(x, training=False)
    for kernel in everything:
        for a in found.get(kernel.name, []):
            assert a.shape[-1] == kernel.shape[-1]
    without = [x for x in everything if x.name not in found]
    if name == "time_distributed":  # the wrapper does not call the layer inside
        assert without == everything[:1]
    elif name in ("lstm", "gru", "simple_rnn", "bidirectional", "einsum") or (
        "separable" in name or "attention" in name
    ):
        assert without == [kernel for kernel in everything if _outputs.refuses(kernel)] != []
    else:
        assert not without


def test_a_tape_has_gradients_in_maps():
    model = randomised(residual())
    x, _ = models.images(3)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([kernel.variable.value for kernel in kernels(model)])
        with _outputs.maps(kernels(model)) as found:
            total = tf.reduce_sum(tf.math.log(model(x, training=False))[:, 0])
    tensors = [maps[0] for maps in found.values()]
    # Behind the last normalisation there is one matrix, and softmax's own derivative.
    by_name = dict(zip(found, tape.gradient(total, tensors), strict=True))
    gradient = by_name[next(n.name for n in kernels(model) if n.layer.name == "linear")]
    head = model.get_layer("head").kernel.numpy()
    slope = np.eye(10)[0] - model(x).numpy()
    np.testing.assert_allclose(gradient.numpy().reshape(3, -1), slope @ head.T, atol=1e-5)


@pytest.mark.parametrize("batch", [64, 7])
def test_zeros_and_magnitudes(batch):
    model = randomised(residual())
    x, _ = models.images(20)
    data = tf.data.Dataset.from_tensor_slices(x).batch(batch)
    zeros, sizes = collect("output_zeros", model, data), collect("output_abs", model, data)
    for layer, at in RESIDUAL.items():
        a = keras.Model(model.input, model.get_layer(at).output).predict(x, verbose=0)
        a = a.reshape(-1, a.shape[-1])
        np.testing.assert_allclose(zeros[layer], (a == 0).mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(sizes[layer], np.abs(a).mean(axis=0), rtol=1e-4)
    assert 0.1 < zeros["first"].mean() < 0.9


def test_ranks():
    model = randomised(residual())
    x, _ = models.images(20)
    x[:, 1:] *= np.arange(20).reshape(-1, 1, 1, 1) % 3 > 0  # some images have one row only
    found = collect("output_rank", model, x, examples=17)
    for layer, at in RESIDUAL.items():
        a = keras.Model(model.input, model.get_layer(at).output).predict(x[:17], verbose=0)
        a = a if a.ndim == 4 else a[:, None, None]
        expected = [[np.linalg.matrix_rank(m) for m in maps.transpose(2, 0, 1)] for maps in a]
        np.testing.assert_allclose(found[layer], np.mean(expected, axis=0), atol=0.1)
    assert set(found["head"]) == {1.0}


def test_ranks_by_hand():
    """The map is the image: a rank of 2, of 1 and of 0."""
    model = keras.Sequential([keras.Input((3, 3, 2)), L.Conv2D(2, 1, use_bias=False)])
    model.set_weights([np.eye(2, dtype="float32")[None, None]])
    x = np.zeros((2, 3, 3, 2), "float32")
    x[0, ..., 0] = [[1, 2, 3], [2, 4, 6], [0, 0, 1]]
    x[1, ..., 0] = 1
    (found,) = collect("output_rank", model, x).values()
    np.testing.assert_array_equal(found, [1.5, 0])
    (found,) = collect("output_rank", model, x, examples=1).values()
    np.testing.assert_array_equal(found, [2, 0])
    with pytest.raises(ValueError, match="examples=0"):
        collect("output_rank", model, x, examples=0)


def test_what_has_no_maps_says_why():
    model, _ = models.kind("lstm")
    assert "LSTM" in _outputs.refuses(kernels(model)[0])
    model, _ = models.kind("separable2d")
    inner, outer, _ = kernels(model)
    assert "stays inside" in _outputs.refuses(inner)
    assert not _outputs.refuses(outer)
    model, _ = models.kind("attention")
    *heads, result, _ = kernels(model)
    assert all("last axis" in _outputs.refuses(kernel) for kernel in heads)
    assert not _outputs.refuses(result)
    model = keras.Sequential([keras.Input((2, 8)), L.Conv1D(2, 1, data_format="channels_first")])
    assert "channels_first" in _outputs.refuses(kernels(model)[0])
