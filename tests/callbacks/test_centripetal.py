"""Centripetal: the channels of a cluster become one while the model trains, then go for free."""

import keras
import numpy as np
import pytest

import tfprune
from tests import models, surgeons
from tfprune import masks
from tfprune.callbacks.centripetal import FINAL, Centripetal
from tfprune.planning import Recipe, merging

L = keras.layers


def fit(model, *callbacks, optimizer="adam", epochs=4, **compilation):
    compilation = compilation or {"run_eagerly": True}
    model.compile(optimizer, "sparse_categorical_crossentropy", **compilation)
    x, y = models.images()
    words = {"batch_size": 16, "epochs": epochs, "verbose": 0, "callbacks": list(callbacks)}
    return model.fit(x, y, **words)


class Before(keras.callbacks.Callback):
    """Keeps what the model gives when training ends, before callbacks behind it do anything."""

    def on_train_end(self, logs=None):
        self.outputs = self.model(models.images()[0]).numpy()


@pytest.mark.parametrize(
    ("optimizer", "compilation"),
    [
        (keras.optimizers.SGD(0.05, momentum=0.9), {}),
        ("adam", {}),
        ("adam", {"jit_compile": True}),
        ("adam", {"steps_per_execution": 2}),
    ],
    ids=["sgd", "adam", "jit", "executions"],
)
def test_merging_loses_nothing_after_it(optimizer, compilation):
    model, before = models.cnn(), Before()
    dense = model.count_params()
    history = fit(model, before, Centripetal("macs:0.5"), optimizer=optimizer, **compilation)
    apart = history.history["apart"]
    # The callback is asked once for all steps of an execution.
    assert apart[0] == pytest.approx(
        FINAL ** ((5 - compilation.get("steps_per_execution", 1)) / 11)
    )
    assert apart[-1] == 0
    x, _ = models.images()
    assert surgeons.error(before.outputs, model(x)) <= 1e-6
    small = tfprune.shrink(model)
    assert surgeons.error(before.outputs, small(x)) <= 1e-6
    assert small.count_params() < dense
    assert tfprune.measure(small)["macs"] == pytest.approx(
        0.5 * tfprune.measure(models.cnn())["macs"], rel=0.1
    )
    assert all(w.constraint is None for w in small.trainable_variables)


def test_a_step_is_that_of_the_paper():
    """One SGD step by hand: the mean of the cluster's updates, and what is left of the distance."""
    model = keras.Sequential(
        [keras.Input((3,)), L.Dense(4, use_bias=False, name="a"), L.Dense(2, use_bias=False)]
    )
    plan = Recipe.of("sparsity:0.5", granularity="channel", criterion="l2").bind(model)
    heir, _ = merging.nearest(plan, plan.masks())[0]
    kernel = model.layers[0].kernel.numpy()

    class Loss(keras.losses.Loss):
        def call(self, y, outputs):
            return keras.ops.sum(outputs * y, axis=-1)

    x, y = np.float32([[1, 2, 3]]), np.float32([[1, -1]])
    gradients = np.outer(x, model.layers[1].kernel.numpy() @ y[0])
    after = []
    callback = Centripetal("sparsity:0.5", criterion="l2", end=2)
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: after.append(model.layers[0].kernel.numpy())
    )
    model.compile(keras.optimizers.SGD(0.1), Loss(), run_eagerly=True)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[callback, look])
    expected = np.empty_like(kernel)
    for member in range(4):
        cluster = heir == heir[member]
        stepped = (kernel - 0.1 * gradients)[:, cluster].mean(axis=1)
        apart = kernel[:, member] - kernel[:, cluster].mean(axis=1)
        expected[:, member] = stepped + FINAL**0.5 * apart
    np.testing.assert_allclose(after[0], expected, rtol=1e-5, atol=1e-6)
    assert len(np.unique(heir)) == 2


def test_own_constraints_and_masks_stay():
    model = models.tiny()
    own = keras.constraints.MaxNorm(1.0)
    model.layers[0].kernel.constraint = own
    model = tfprune.prune(model, "sparsity:0.3", in_place=True, criterion="random")
    zeros = model.layers[0].kernel.numpy() == 0
    callback = Centripetal("sparsity:0.5", criterion="l2")
    fit(model, callback)
    assert not model.layers[0].kernel.numpy()[zeros].any()
    tfprune.detach(model)
    assert model.layers[0].kernel.constraint is own
    assert model.layers[0].bias.constraint is None


def test_ended_too_early_it_merges_and_says_so(caplog):
    model, before = models.tiny(), Before()
    fit(model, before, Centripetal("sparsity:0.5", criterion="l2", end=1000), epochs=1)
    assert "of the distance between the channels" in caplog.text
    assert any((~mask).any() for mask in masks.of(model).values())


def test_averages_of_the_optimizer_are_merged():
    model = models.tiny()
    optimizer = keras.optimizers.Adam(use_ema=True, ema_momentum=0.5)
    fit(model, Centripetal("sparsity:0.5", criterion="l2"), optimizer=optimizer)
    kernel = model.layers[0].kernel.numpy().reshape(-1, 8)
    small = tfprune.shrink(model)
    x, _ = models.images()
    assert surgeons.error(model(x), small(x)) <= 1e-6
    assert (~kernel.any(axis=0)).sum() == 4


def test_what_a_stop_leaves_is_replaced():
    model = models.tiny()
    callback = Centripetal("sparsity:0.5", criterion="l2")

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, callback, Stop())
    fit(model, Centripetal("sparsity:0.5", criterion="l2"))
    tfprune.detach(model)
    assert all(w.constraint is None for w in model.trainable_variables)


def test_a_training_that_was_stopped_goes_on_where_it_was(tmp_path):
    dense = models.cnn().get_weights()

    def train(*callbacks):
        model, before = models.cnn(), Before()
        model.set_weights(dense)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        history = fit(model, before, Centripetal("macs:0.5"), backup, *callbacks)
        return history.history["apart"], surgeons.error(before.outputs, model(models.images()[0]))

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(Stop())
    apart, error = train()
    assert apart == [0, 0]  # of the last two epochs
    assert error <= 1e-6


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"target": "bytes:0.5"}, "can't be done at each step"),
        ({"target": "redundant"}, "can't be done at each step"),
        ({"target": "macs:0.5", "granularity": "filter"}, "granularity='channel'"),
        ({"target": "macs:0.5", "end": "soon"}, "no moment"),
        ({"target": "macs:0.5", "criterion": "kmean"}, "Did you mean kmeans"),
    ],
)
def test_wrong_words(words, match):
    with pytest.raises(ValueError, match=match):
        Centripetal(**words)
