"""Accuracy is correct / total, and nothing inflates it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from tfprune import batches
from tfprune.measurement import accuracy

RNG = np.random.default_rng(0)


def identity(width, activation=None):
    """Returns a model whose outputs are `activation` of its inputs."""
    return keras.Sequential([keras.Input((width,)), keras.layers.Activation(activation)])


def scores(count, classes):
    return RNG.normal(size=(count, classes)).astype("float32")


@pytest.mark.parametrize("k", [1, 3, 5])
def test_topk_equals_scikit_learn(k):
    outputs, labels = scores(200, 9), RNG.integers(0, 9, 200)
    expected = metrics.top_k_accuracy_score(labels, outputs, k=k, labels=range(9))
    assert accuracy.topk(outputs, labels, k).mean() == expected


def test_a_constant_model_gains_nothing_from_ties():
    labels = np.repeat(np.arange(10), 3)
    outputs = np.full((30, 10), 0.1)
    assert accuracy.topk(outputs, labels, 1).mean() == 0.1
    assert accuracy.topk(outputs, labels, 5).mean() == 0.5


def test_a_perfect_classifier_scores_one_with_a_short_last_batch():
    # Mean of batch means, or hits / batch size, gives less than 1 here.
    labels = RNG.integers(0, 10, 10)
    data = tf.data.Dataset.from_tensor_slices((np.eye(10, dtype="float32")[labels], labels))
    result = accuracy.evaluate(identity(10), data.batch(4))
    assert result["top1"] == result["top5"] == 1.0
    assert result["examples"] == 10


def test_batches_of_any_size_give_the_same_figures():
    x, y = scores(10, 7), RNG.integers(0, 7, 10)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    model = identity(7, "softmax")
    results = [
        accuracy.evaluate(model, (x, y)),
        accuracy.evaluate(model, (x, y), batch_size=3),
        accuracy.evaluate(model, dataset.batch(4)),
        accuracy.evaluate(model, [(x[:9], y[:9]), (x[9:], y[9:])]),
    ]
    for result in results:
        assert result["top1"] == np.mean(x.argmax(1) == y)
        assert result["loss"] == pytest.approx(
            metrics.log_loss(y, np.exp(x) / np.exp(x).sum(1, keepdims=True), labels=range(7)),
            rel=1e-5,
        )


def test_it_agrees_with_keras_own_evaluate():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    x, y = scores(50, 6), RNG.integers(0, 4, 50)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    loss, top1 = model.evaluate(x, y, verbose=0)
    result = accuracy.evaluate(model, (x, y[:, None]))
    assert result["top1"] == pytest.approx(top1, abs=1e-6)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert "top5" not in result


def test_one_hot_labels_score_like_class_numbers():
    x, y = scores(20, 6), RNG.integers(0, 6, 20)
    one_hot = accuracy.evaluate(identity(6), (x, np.eye(6)[y]))
    assert one_hot == pytest.approx(accuracy.evaluate(identity(6), (x, y)))


@pytest.mark.parametrize(("activation", "threshold"), [("sigmoid", 0.5), (None, 0.0)])
def test_a_binary_classifier_says_one_above_its_threshold(activation, threshold):
    x, y = np.array([[-2.0], [0.4], [0.6], [0.0]], "float32"), np.array([0, 1, 0, 0])
    model = identity(1, activation)
    outputs = np.asarray(model(x))
    expected = np.mean((outputs[:, 0] > threshold) == y)
    assert accuracy.evaluate(model, (x, y))["top1"] == expected == 0.75


def test_every_pixel_counts():
    x, y = RNG.normal(size=(3, 4, 4, 2)).astype("float32"), RNG.integers(0, 2, (3, 4, 4))
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Activation("softmax")])
    assert accuracy.evaluate(model, (x, y))["top1"] == np.mean(x.argmax(-1) == y)


def test_other_targets_have_a_loss_and_no_accuracy():
    x = scores(5, 3)
    assert accuracy.evaluate(identity(3), (x, x + 2)) == {
        "loss": pytest.approx(4.0, rel=1e-5),
        "examples": 5,
    }


def test_evaluation_changes_no_weight():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    )
    before = [v.numpy().copy() for v in model.variables]
    accuracy.evaluate(model, (scores(8, 6), np.zeros(8, int)))
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (scores(4, 3), np.array([0, 1, 2, 3]), "label 3 "),
        (np.full((4, 3), np.nan, "float32"), np.zeros(4, int), "NaN"),
        (np.zeros((0, 3), "float32"), np.zeros(0, int), "no examples"),
        (scores(4, 3), np.zeros(5, int), "differ in length"),
        (scores(4, 3), None, "needs labels"),
    ],
)
def test_data_that_can_not_be_judged_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        accuracy.evaluate(identity(3), (x, y))


def test_a_wrong_label_in_a_late_batch_is_found():
    with pytest.raises(ValueError, match="label 7 "):
        accuracy.evaluate(identity(3), (scores(6, 3), np.array([0, 1, 2, 0, 1, 7])), batch_size=2)


def test_batches_read_what_fit_takes():
    x = {"a": np.arange(6).reshape(3, 2), "b": np.arange(3)}
    parts = list(batches.pairs((x, np.arange(3)), batch_size=2))
    assert [len(y) for _, y in parts] == [2, 1]
    np.testing.assert_array_equal(parts[1][0]["a"], [[4, 5]])
    assert [y for _, y in batches.pairs(x)] == [None]
    inputs_only = tf.data.Dataset.from_tensor_slices(np.zeros((4, 2))).batch(4)
    assert next(batches.pairs(inputs_only))[0].shape == (4, 2)
