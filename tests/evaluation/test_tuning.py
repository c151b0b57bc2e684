import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.evaluation import tuning


def network():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


def examples(count=64, *, shift=0):
    x = np.random.default_rng(0).normal(size=(count, 4)).astype("float32")
    y = (x[:, :3].argmax(1) + shift) % 3
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(16)


class Recorder(keras.callbacks.Callback):
    def __init__(self, judge):
        super().__init__()
        self.judge, self.scores, self.rates = judge, [], []

    def on_train_batch_end(self, batch, logs=None):
        self.scores.append(self.judge(self.model))
        self.rates.append(float(self.model.optimizer.learning_rate))


def accuracy(model):
    x, y = next(iter(examples().unbatch().batch(64)))
    return float(np.mean(model(x).numpy().argmax(1) == y.numpy()))


def test_it_is_the_last_step_that_counts_not_the_best():
    # At first the labels are right, then they are not: the network gets better, then worse.
    model, seen = network(), Recorder(accuracy)
    train = examples().repeat(10).concatenate(examples(shift=1).repeat(10))
    tuning.tune(model, train, steps=80, learning_rate=0.3, optimizer="sgd", callbacks=[seen])
    assert len(seen.scores) == 80
    assert accuracy(model) == seen.scores[-1] < max(seen.scores) - 0.3


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_rate_falls_along_a_cosine_over_exactly_these_steps(optimizer):
    model, seen = network(), Recorder(accuracy)
    tuning.tune(
        model, examples(), steps=10, learning_rate=0.1, optimizer=optimizer, callbacks=[seen]
    )
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(1, 11) / 10))
    np.testing.assert_allclose(seen.rates, expected, atol=1e-7)
    assert int(model.optimizer.iterations) == 10


def test_no_steps_change_nothing():
    model = network()
    before = model.get_weights()
    tuning.tune(model, examples(), steps=0, learning_rate=0.1)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_wrong_words_and_losses():
    with pytest.raises(ValueError, match=r"unknown optimizer 'adamm'. Did you mean adam"):
        tuning.tune(network(), examples(), steps=1, learning_rate=0.1, optimizer="adamm")
    huge = examples().map(lambda x, y: (x * 1e38, y))
    with pytest.raises(ValueError, match=r"loss is (nan|inf) .*: lower the learning rate"):
        tuning.tune(network(), huge, steps=3, learning_rate=1e38)
