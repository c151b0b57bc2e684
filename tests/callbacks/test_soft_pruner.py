"""SoftPruner: what is zero after an epoch, what trains on, and what is left at the end."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import models
from tfprune import masks
from tfprune.callbacks.soft_pruner import SoftPruner
from tfprune.graph import kernels as k

L = keras.layers


def fit(model, *callbacks, optimizer="adam", epochs=3, **compilation):
    compilation = compilation or {"run_eagerly": True}  # nothing to trace, which takes longest
    model.compile(optimizer, "sparse_categorical_crossentropy", **compilation)
    x, y = models.images()
    return model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=list(callbacks))


def weights(model):
    return {short(name): variable.numpy() for name, variable in k.named(model).items()}


def held(model):
    return {short(name): mask for name, mask in masks.of(model).items()}


def short(name):
    """Returns layer/variable of a path, which begins with the model's name."""
    return "/".join(name.split("/")[-2:])


def density(model):
    kernels = [x.read() for x in k.find(model)[0]]
    return sum(np.count_nonzero(x) for x in kernels) / sum(x.size for x in kernels)


class Look(keras.callbacks.Callback):
    """Keeps the weights as they are after every epoch, and after the first step of each."""

    def on_train_begin(self, logs=None):
        self.ends, self.starts = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(weights(self.model))

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.starts.append(weights(self.model))


def lowest(kernel, share):
    """Returns which filters, the last axis, have the lowest L2 norm."""
    norms = np.sqrt((kernel.astype(np.float64) ** 2).reshape(-1, kernel.shape[-1]).sum(0))
    result = np.zeros(len(norms), bool)
    result[np.argsort(norms)[: round(share * len(norms))]] = True
    return result


def test_the_filters_of_lowest_norm_are_zeroed():
    model = models.cnn()
    before = weights(model)
    look = Look()
    words = {"granularity": "filter", "protect": ["head", "depthwise"]}
    fit(model, SoftPruner("sparsity:0.5", **words), look, optimizer=keras.optimizers.SGD(0.0))
    for name, value in look.ends[0].items():
        expected = before[name].copy()
        if name in ("conv/kernel", "pointwise/kernel"):
            expected[..., lowest(before[name], 0.5)] = 0
        if "moving" not in name:
            np.testing.assert_array_equal(value, expected, err_msg=name)


@pytest.mark.parametrize("granularity", ["filter", "channel", "weight", "block(2, 2)"])
def test_zeros_train_on_until_the_end(granularity):
    model = models.cnn()
    look = Look()
    soft = SoftPruner("sparsity:0.5", granularity=granularity)
    history = fit(model, soft, look, epochs=3).history["sparsity"]
    np.testing.assert_allclose(history, 0.5, atol=0.08)
    for end, start in zip(look.ends, look.starts[1:], strict=False):
        zero = {name: end[name] == 0 for name in ("conv/kernel", "pointwise/kernel")}
        assert all(x.any() for x in zero.values())
        assert any(start[name][x].any() for name, x in zero.items())
    assert 1 - density(model) == pytest.approx(history[-1], abs=1e-6)
    zeros = {name: weights(model)[name] == 0 for name in held(model)}
    fit(model, epochs=1)
    for name, zero in zeros.items():
        np.testing.assert_array_equal(weights(model)[name] == 0, zero, err_msg=name)


def test_only_filters_are_zeroed_while_channels_train():
    """The normalisation and the readers of a zeroed filter must let its gradient through."""
    model = models.cnn()
    look = Look()
    fit(model, SoftPruner("sparsity:0.5"), look, epochs=2)
    soft, hard = look.ends[-1], weights(model)
    gone = {name: ~soft[name].any(axis=(0, 1, 2)) for name in ("conv/kernel", "pointwise/kernel")}
    assert all(x.any() and not x.all() for x in gone.values())
    for name, value in soft.items():
        if "kernel" not in name and "moving" not in name and "bias" not in name:
            assert value.all(), name
    assert soft["depthwise/kernel"].all()
    assert soft["head/kernel"].all()
    a, b = gone.values()
    norm = [name for name in hard if "gamma" in name]
    parts = [(hard["conv/kernel"], a), (hard[norm[0]], a), (hard["head/kernel"].T, b)]
    parts += [(np.moveaxis(hard["depthwise/kernel"], -2, -1), a), (hard[norm[1]], b)]
    parts += [(np.moveaxis(hard["pointwise/kernel"], -2, -1), a), (hard["pointwise/kernel"], b)]
    for value, zero in parts:
        np.testing.assert_array_equal(value.reshape(-1, len(zero)).any(0), ~zero)


def test_what_was_chosen_too_early_comes_back():
    """A criterion that turns round: only its last word counts."""
    model = models.cnn()
    turn = []

    def score(units):
        return np.arange(len(units)) * (1.0 if turn else -1.0)

    look = Look()
    words = {"criterion": score, "granularity": "filter", "protect": ["head"]}
    second = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: turn.append(epoch) if epoch else None
    )
    fit(model, second, SoftPruner("sparsity:0.5", **words), look, epochs=2)
    first, last = (x["conv/kernel"].any(axis=(0, 1, 2)) for x in look.ends)
    np.testing.assert_array_equal(first, [True] * 4 + [False] * 4)
    np.testing.assert_array_equal(last, [False] * 4 + [True] * 4)
    kept = weights(model)["conv/kernel"].any(axis=(0, 1, 2))
    np.testing.assert_array_equal(kept, last)


def test_validation_is_that_of_the_pruned_model():
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    data, look = models.images(), Look()
    soft = SoftPruner("sparsity:0.5")
    history = model.fit(
        *data, validation_data=data, epochs=2, verbose=0, callbacks=[look, soft]
    ).history
    for variable, value in zip(model.weights, look.ends[1].values(), strict=True):
        variable.assign(value)
    masks.detach(model)
    assert model.evaluate(*data, verbose=0) == pytest.approx(history["val_loss"][1], rel=1e-5)
    # An evaluation after training zeroes nothing more.
    before = weights(model)
    model.evaluate(*data, verbose=0, callbacks=[soft])
    for name, value in weights(model).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("make", [models.cnn, models.nested])
@pytest.mark.parametrize("target", ["sparsity:0.5", "macs:0.6", "params:0.6"])
def test_targets(make, target):
    model = make()
    soft = SoftPruner(target, granularity="filter")
    history = fit(model, soft, epochs=2).history["sparsity"]
    assert 0 < history[-1] == pytest.approx(1 - density(model), abs=1e-6)


def test_a_subclassed_model_in_whole_filters():
    model = models.subclassed()
    fit(model, SoftPruner("sparsity:0.5", granularity="filter"), jit_compile=False, epochs=2)
    assert 1 - density(model) == pytest.approx(0.5, abs=0.05)


def test_compiled():
    model = models.cnn()
    settings = {"steps_per_execution": 3, "jit_compile": False}
    history = fit(model, SoftPruner("sparsity:0.5"), epochs=2, **settings).history
    assert 1 - density(model) == pytest.approx(history["sparsity"][-1], abs=1e-6)
    x, y = models.images()
    zero = {name: ~mask for name, mask in held(model).items()}
    model.fit(x, y, verbose=0)
    assert all(not weights(model)[name][x].any() for name, x in zero.items())


def test_two_replicas():
    cpus = [cpu.name for cpu in tf.config.list_logical_devices("CPU")[:2]]
    # Collective ops of several strategies in one process get into each other's way.
    ops = tf.distribute.ReductionToOneDevice()
    with tf.distribute.MirroredStrategy(cpus, cross_device_ops=ops).scope():
        model = models.cnn()
        adam = keras.optimizers.Adam()
    look = Look()
    fit(model, SoftPruner("sparsity:0.5"), look, optimizer=adam, jit_compile=False, epochs=2)
    assert not look.ends[0]["conv/kernel"].any(axis=(0, 1, 2)).all()
    for kernel in k.find(model)[0]:
        replicas = [v.numpy() for v in kernel.variable.value.values]
        np.testing.assert_array_equal(*replicas)
        assert not replicas[0].all()


def test_averaged_and_restored_weights_are_pruned_at_the_end():
    adam = keras.optimizers.Adam(use_ema=True, ema_momentum=0.9)
    best = keras.callbacks.EarlyStopping("loss", patience=99, restore_best_weights=True)
    for callbacks, optimizer in (([], adam), ([best], keras.optimizers.SGD(10.0))):
        model = models.cnn()
        soft = SoftPruner("sparsity:0.5", granularity="filter")
        fit(model, *callbacks, soft, optimizer=optimizer)
        assert 1 - density(model) == pytest.approx(soft.sparsity, abs=1e-6)


def test_the_saved_model_is_plain(tmp_path):
    model = models.cnn()
    fit(model, SoftPruner("sparsity:0.5"), epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert not masks.of(loaded)
    assert [w.shape for w in loaded.weights] == [w.shape for w in model.weights]
    for a, b in zip(loaded.weights, model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"target": "sparsity:1.2"}, "up to, but not, 1"),
        ({"criterion": "l22"}, "Did you mean l2"),
        ({"granularity": "filtre"}, "Did you mean filter"),
        ({"min_keep": -1}, "min_keep"),
        ({"round_to": 8, "granularity": "filter"}, "round_to"),
    ],
)
def test_wrong_words_are_errors_before_training(words, match):
    with pytest.raises(ValueError, match=match):
        SoftPruner(**({"target": "sparsity:0.5"} | words))


@pytest.mark.parametrize(
    ("make", "words", "match"),
    [
        (models.cnn, {"protect": ["con"]}, "Did you mean conv"),
        (models.cnn, {"target": "sparsity:0.9999"}, "nearest that can"),
        (models.subclassed, {}, "subclassed"),
    ],
)
def test_what_cant_be_pruned_is_said_when_training_begins(make, words, match):
    model = make()
    before = model.get_weights()
    with pytest.raises(ValueError, match=match):
        fit(model, SoftPruner(**({"target": "sparsity:0.5"} | words)))
    assert not masks.of(model)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
