"""The loss fits labels and last activation."""

import keras
import numpy as np
import pytest

from tfprune import losses

L = keras.layers


def net(*layers):
    return keras.Sequential([keras.Input((4,)), *layers])


class Hidden(keras.Model):
    """A model that shows neither its layers' order nor its outputs."""

    def __init__(self, activation):
        super().__init__()
        self.head = L.Dense(3, activation=activation)

    def call(self, x):
        return self.head(x)


def dense(units, activation=None):
    return L.Dense(units, activation=activation)


# Functions, because a layer made while pytest collects would start TensorFlow.
ENDS = [
    (lambda: [dense(3, "softmax")], "softmax"),
    (lambda: [dense(3)], "linear"),
    (lambda: [dense(3), L.Activation("softmax")], "softmax"),
    (lambda: [dense(3), L.Softmax(), L.Activation("linear")], "softmax"),
    (lambda: [dense(3, "softmax"), L.Reshape((3, 1)), L.Flatten()], "softmax"),
    (lambda: [net(dense(4), dense(3, "softmax"))], "softmax"),
    (lambda: [dense(3, "softmax"), dense(3)], "linear"),
    (lambda: [dense(1, "sigmoid"), L.Dropout(0.5)], "sigmoid"),
]


@pytest.mark.parametrize(("layers", "expected"), ENDS)
def test_the_last_activation_is_read_from_the_layers(layers, expected):
    assert losses.activation(net(*layers())) == expected


def test_functional_ops_are_seen():
    x = keras.Input((4,))
    assert losses.activation(keras.Model(x, keras.ops.softmax(dense(3)(x)))) == "softmax"


@pytest.mark.parametrize("activation", ["softmax", "linear"])
def test_a_hidden_activation_is_judged_by_the_outputs(activation):
    model = Hidden(activation)
    outputs = np.asarray(model(np.random.default_rng(0).normal(size=(8, 4)).astype("float32")))
    assert losses.activation(model, outputs) == activation
    with pytest.raises(ValueError, match="pass outputs="):
        losses.activation(model)


SPARSE, DENSE = "sparse_categorical_crossentropy", "categorical_crossentropy"
BINARY, SQUARED = "binary_crossentropy", "mean_squared_error"


@pytest.mark.parametrize(
    ("units", "activation", "labels", "name", "logits"),
    [
        (3, None, np.array([0, 2]), SPARSE, True),
        (3, None, np.array([[0.0], [2.0]]), SPARSE, True),
        (3, "softmax", np.array([0, 2], "uint8"), SPARSE, False),
        (3, None, np.eye(3), DENSE, True),
        (3, "softmax", np.full((2, 3), 1 / 3), DENSE, False),
        (3, "sigmoid", np.array([[1, 1, 0]]), BINARY, False),
        (1, "sigmoid", np.array([0, 1]), BINARY, False),
        (1, None, np.array([[0], [1]]), BINARY, True),
        (1, None, np.array([0.3, 7.0]), SQUARED, None),
        (3, None, np.array([[0.3, 7.0, -1.0]]), SQUARED, None),
    ],
)
def test_labels_and_activation_choose_the_loss(units, activation, labels, name, logits):
    loss = losses.fitting(net(dense(units, activation)), labels)
    assert loss.name == name
    assert getattr(loss, "from_logits", None) == logits


def test_the_loss_computes_cross_entropy_of_probabilities_and_of_logits():
    logits = np.array([[1.0, 2.0, 4.0]], "float32")
    probabilities = np.exp(logits) / np.exp(logits).sum()
    by_hand = -np.log(probabilities[0, 1])
    for layer, outputs in ((dense(3), logits), (dense(3, "softmax"), probabilities)):
        labels = np.array([1])
        loss = losses.fitting(net(layer), labels, outputs)
        assert float(loss(labels, outputs)) == pytest.approx(by_hand, rel=1e-5)


def test_pixels_are_labelled_one_by_one():
    model = keras.Sequential([keras.Input((4, 4, 2)), L.Conv2D(3, 1)])
    loss = losses.fitting(model, np.zeros((2, 4, 4), int))
    assert loss.name == "sparse_categorical_crossentropy"


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.5, 1.0]])
def test_a_label_that_is_no_class_is_named(labels):
    with pytest.raises(ValueError, match=r"label (3|-1|0\.5) .*3 classes"):
        losses.fitting(net(dense(3)), np.array(labels))


def test_a_class_number_above_one_does_not_fit_a_single_output():
    with pytest.raises(ValueError, match="label 2 "):
        losses.fitting(net(dense(1)), np.array([0, 2]))


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 3), (2, 2)])
def test_shapes_that_do_not_match_are_named(shape):
    with pytest.raises(ValueError, match="don't fit outputs"):
        losses.fitting(net(dense(3)), np.zeros(shape))


def test_softmax_refuses_rows_that_are_no_probabilities():
    with pytest.raises(ValueError, match="sum to 1"):
        losses.fitting(net(dense(3, "softmax")), np.ones((2, 3)))
