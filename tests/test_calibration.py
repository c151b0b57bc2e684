"""Calibration data, good and bad, and a model that comes out as it went in."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import models, surgeons
from tfprune import statistics
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k

L = keras.layers


def grad(model, data, **options):
    kernels = k.find(model)[0]
    return statistics.collect(["grad"], Calibration(model, data, **options), kernels, {})["grad"]


def close(found, expected):
    assert list(found) == list(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-7)


def linear(outputs=1, **compiled):
    model = keras.Sequential([keras.Input((3,)), L.Dense(outputs)])
    if compiled:
        model.compile(**compiled)
    return model


def test_all_that_fit_takes_is_the_same():
    model = models.cnn()
    x, y = models.images(10)
    expected = grad(model, (x, y))
    close(grad(model, tf.data.Dataset.from_tensor_slices((x, y)).batch(4)), expected)
    close(grad(model, [(x[:3], y[:3]), (x[3:], y[3:])]), expected)
    close(grad(model, (x, keras.utils.to_categorical(y, 10))), expected)


def test_batches_larger_than_a_step_are_split():
    model = models.cnn()
    x, y = models.images(100)
    sizes = [len(a) for a, _ in Calibration(model, [(x, y)]).examples(labels=True)]
    assert sizes == [64, 36]


def test_one_sample_is_enough():
    model = models.cnn()
    x, y = models.images(1)
    found = grad(model, (x, y))
    assert all(np.isfinite(value).all() and value.any() for value in found.values())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (x[:0], y[:0]), "is empty"),
        (lambda x, y: [], "is empty"),
        (lambda x, y: x, "no labels"),
        (lambda x, y: (x,), "no labels"),
        (lambda x, y: (x, y + 7), r"label 1[0-9] is outside \[0, 10\)"),
        (lambda x, y: (x, y - 9), r"label -[0-9] is outside \[0, 10\)"),
        (lambda x, y: (x, np.where(y == y[0], np.nan, y)), "labels that are NaN"),
        (
            lambda x, y: (np.where(np.arange(8)[:, None, None, None] == 5, np.nan, x), y),
            "example 5",
        ),
        (lambda x, y: (np.where(x == x.max(), np.inf, x), y), "NaN or infinite inputs"),
        (lambda x, y: (x, y[:5]), "differ in length"),
        (lambda x, y: (x, np.zeros((8, 3))), "don't fit"),
    ],
)
def test_bad_data(spoil, message):
    x, y = models.images(8)
    with pytest.raises(ValueError, match=message):
        grad(models.cnn(), spoil(x, y))


def test_wrong_labels_in_a_later_batch_are_found():
    x, y = models.images(8)
    with pytest.raises(ValueError, match="label 10 is outside"):
        grad(models.cnn(), [(x, y), (x, np.full(8, 10))])


def test_an_iterator_that_is_used_up():
    model = models.cnn()
    data = iter([models.images(8)])
    assert grad(model, data)
    with pytest.raises(ValueError, match="used up"):
        grad(model, data)


def gradient_of(model, data, **options):
    """Returns the gradient of a model of one Dense layer, as a vector."""
    (found,) = grad(model, data, **options).values()
    return found[:, 0]


def test_the_loss_is_the_given_the_compiled_or_the_fitting_one():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype("float32"), rng.normal(size=(20, 1))
    model = linear()
    error = model(x).numpy() - y
    square, absolute = (2 * error * x).mean(0), (np.sign(error) * x).mean(0)
    np.testing.assert_allclose(gradient_of(model, (x, y)), square, rtol=1e-4, atol=1e-6)
    model.compile(loss="mae")
    np.testing.assert_allclose(gradient_of(model, (x, y)), absolute, rtol=1e-4, atol=1e-6)
    given = [
        "mse",
        keras.losses.MeanSquaredError(),
        lambda labels, outputs: tf.reduce_mean(tf.square(outputs - tf.cast(labels, "float32")), 1),
    ]
    for loss in given:
        found = gradient_of(model, (x, y), loss=loss)
        np.testing.assert_allclose(found, square, rtol=1e-4, atol=1e-6)


def test_a_compiled_loss_that_does_not_fit_is_replaced():
    x, y = models.images(8)
    model = models.cnn()
    expected = grad(model, (x, y))
    model.compile(loss="categorical_crossentropy")  # of one-hot labels
    close(grad(model, (x, y)), expected)


def test_a_loss_of_one_value_for_all_is_an_error():
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1))
    with pytest.raises(ValueError, match="one value for all"):
        grad(linear(), (x, y), loss=lambda labels, outputs: tf.reduce_mean(outputs))


def test_several_outputs_are_an_error():
    x = keras.Input((3,))
    model = keras.Model(x, [L.Dense(2)(x), L.Dense(2)(x)])
    with pytest.raises(ValueError, match="several outputs"):
        grad(model, (np.ones((4, 3), "float32"), np.zeros(4)))


def test_a_dict_of_compiled_losses_is_an_error():
    model = models.cnn()
    model.compile(loss={"head": "sparse_categorical_crossentropy"})
    with pytest.raises(ValueError, match="pass loss="):
        grad(model, models.images(4))


def test_a_layer_that_the_data_never_reach_is_named():
    @keras.saving.register_keras_serializable("tests")
    class Forked(keras.Model):
        def __init__(self):
            super().__init__()
            self.used, self.idle = L.Dense(2, name="used"), L.Dense(2, name="idle")

        def call(self, x):
            self.idle(x)
            return self.used(x)

    model = Forked()
    model(np.zeros((1, 3)))
    data = np.ones((4, 3), "float32"), np.array([0, 1, 0, 1])
    idle = [kernel for kernel in k.find(model)[0] if kernel.layer is model.idle]
    names = "grad", "grad_sq", "grad_batches", "hessian_grad", "hessian_diag", "output_taylor"
    for name in names:
        with pytest.raises(ValueError, match=r"layer 'idle'.*never reached"):
            statistics.collect([name], Calibration(model, data), idle, {})


def test_inference_leaves_the_model_as_it_was():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            L.RandomFlip(seed=1),
            L.Conv2D(4, 3),
            L.BatchNormalization(),
            L.Dropout(0.5, seed=2),
            L.Flatten(),
            L.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    surgeons.randomise(model)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    x, y = models.images(8)
    first = grad(model, (x, y))
    after = [keras.ops.convert_to_numpy(v) for v in model.variables]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    close(grad(model, (x, y)), first)  # no dropout, no flips


def test_states_that_a_pass_changes_are_put_back():
    @keras.saving.register_keras_serializable("tests")
    class Counted(L.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            return x

    model = keras.Sequential([keras.Input((3,)), Counted(), L.Dense(2)])
    before = float(model.layers[0].calls.numpy())
    grad(model, (np.ones((4, 3), "float32"), np.array([0, 1, 0, 1])))
    assert float(model.layers[0].calls.numpy()) == before


def test_half_precision_computes_in_float32():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6)).astype("float32"), rng.integers(0, 3, 8)

    def build(policy):
        layers = [L.Dense(5, activation="tanh", dtype=policy), L.Dense(3, dtype=policy)]
        return keras.Sequential([keras.Input((6,)), *layers])

    half, whole = build("mixed_bfloat16"), build("float32")
    whole.set_weights(half.get_weights())
    pairs = zip(grad(half, (x, y)).values(), grad(whole, (x, y)).values(), strict=True)
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert [layer.compute_dtype for layer in half.layers] == ["bfloat16"] * 2
