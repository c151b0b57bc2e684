"""Pruner under everything that `fit` can be told."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tests import models
from tfprune import masks, schedules
from tfprune.graph import kernels as k


def density(model):
    kernels, _ = k.find(model)
    return sum(np.count_nonzero(x.read()) for x in kernels) / sum(x.size for x in kernels)


def off(model, sparsity=0.75):
    """Units between the model's zeros and the sparsity asked for."""
    return abs(1 - density(model) - sparsity) * sum(x.size for x in k.find(model)[0])


def fit(model, *callbacks, optimizer="adam", data=None, epochs=3, batch=8, **compilation):
    model.compile(optimizer, "sparse_categorical_crossentropy", **compilation)
    model.optimizer.build(model.trainable_variables)  # else the step is traced twice
    x, y = data or models.images()
    return model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, callbacks=list(callbacks))


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_kind_of_layer(kind):
    model, shape = models.kind(kind)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12, (32, *shape)) if kind == "embedding" else rng.random((32, *shape))
    fit(model, tfprune.Pruner("sparsity:0.75"), data=(x, rng.integers(0, 10, 32)))
    assert off(model) <= 0.501
    kept = {x.name: x.read() for x in k.find(model)[0]}
    fit(model, data=(x, rng.integers(0, 10, 32)))  # zeros stay, the others train
    for kernel in k.find(model)[0]:
        before, after = kept[kernel.name], kernel.read()
        assert not after[before == 0].any()
        assert np.any(after != before)


@pytest.mark.parametrize("make", [models.cnn, models.nested, models.subclassed])
@pytest.mark.parametrize("compilation", [{"jit_compile": True}, {"jit_compile": False}])
def test_every_kind_of_model(make, compilation):
    model = make()
    fit(model, tfprune.Pruner("sparsity:0.75"), **compilation)
    assert off(model) <= 0.501


@pytest.mark.parametrize(
    "name",
    [
        "SGD",
        "RMSprop",
        "Adam",
        "AdamW",
        "Adadelta",
        "Adagrad",
        "Adamax",
        "Nadam",
        "Ftrl",
        "Adafactor",
        "Lion",
        "Lamb",
        "Muon",
    ],
)
def test_every_optimizer(name):
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"this Keras has no {name}")
    model = models.tiny()
    fit(model, tfprune.Pruner("sparsity:0.75"), optimizer=getattr(keras.optimizers, name)())
    assert off(model) <= 0.501


def test_momentum_does_not_revive_weights():
    model = models.tiny()
    sgd = keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True)
    fit(model, tfprune.Pruner("sparsity:0.75", end="1ep"), optimizer=sgd)
    assert off(model) <= 0.501


@pytest.mark.parametrize("steps", [3, 8, 50])
def test_steps_per_execution(steps):
    model = models.tiny()
    fit(model, tfprune.Pruner("sparsity:0.75"), steps_per_execution=steps)
    assert off(model) <= 0.501


def test_eager():
    model = models.tiny()
    fit(model, tfprune.Pruner("sparsity:0.75"), run_eagerly=True, epochs=1)
    assert off(model) <= 0.501


def test_gradient_accumulation_counts_updates():
    model = models.tiny()
    pruner = tfprune.Pruner("sparsity:0.75", end="2ep", frequency=1)
    adam = keras.optimizers.Adam(gradient_accumulation_steps=4)
    history = fit(model, pruner, optimizer=adam, epochs=4).history["sparsity"]
    assert int(model.optimizer.iterations) == 4 * 2
    assert history[0] < 0.75 == pytest.approx(history[2], abs=1e-3)
    assert off(model) <= 0.501


@pytest.mark.parametrize("settings", [{}, {"ema_overwrite_frequency": 3}])
def test_averaged_weights_stay_pruned(settings):
    model = models.tiny()
    adam = keras.optimizers.Adam(use_ema=True, **settings)
    fit(model, tfprune.Pruner("sparsity:0.75"), optimizer=adam)
    assert off(model) <= 0.501
    fit(model, tfprune.HoldZeros(), optimizer=keras.optimizers.Adam(use_ema=True))
    assert off(model) <= 0.501


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.tiny()
        fit(model, tfprune.Pruner("sparsity:0.75"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert off(model) <= 0.501


def test_a_users_own_constraint_holds_and_comes_back():
    own = keras.constraints.MaxNorm(0.1)
    layer = keras.layers.Dense(10, activation="softmax", kernel_constraint=own, name="head")
    model = keras.Sequential([keras.Input((8, 8, 4)), keras.layers.Flatten(), layer])
    fit(model, tfprune.Pruner("sparsity:0.75"))
    assert off(model) <= 0.501
    assert np.linalg.norm(layer.kernel.numpy(), axis=0).max() <= 0.1 + 1e-6
    tfprune.detach(model)
    assert layer.kernel.constraint is own
    fit(model)
    assert density(model) > 0.9


def test_masks_reach_a_train_step_that_was_traced_before():
    model = models.tiny()
    fit(model)
    x, y = models.images()
    model.fit(x, y, epochs=2, verbose=0, callbacks=[tfprune.Pruner("sparsity:0.75")])
    assert off(model) <= 0.501


def test_two_replicas():
    cpus = tf.config.list_logical_devices("CPU")
    if len(cpus) < 2:
        pytest.skip("needs two virtual CPUs, which are set up before TensorFlow starts")
    strategy = tf.distribute.MirroredStrategy([cpu.name for cpu in cpus[:2]])
    with strategy.scope():
        model = models.tiny()
        model.compile("adam", "sparse_categorical_crossentropy")
    x, y = models.images()
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[tfprune.Pruner("sparsity:0.75")])
    assert off(model) <= 0.501
    for kernel in k.find(model)[0]:
        replicas = [v.numpy() for v in kernel.variable.value.values]
        assert len(replicas) == 2
        np.testing.assert_array_equal(*replicas)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    assert off(model) <= 0.501


@pytest.mark.parametrize("schedule", schedules.names())
def test_every_schedule_ends_at_the_target(schedule):
    """TFMOT's own polynomial ends short of it when its end is off the frequency's grid."""
    model = models.tiny()
    pruner = tfprune.Pruner("sparsity:0.75", schedule=schedule, begin=1, end=20, frequency=7)
    fit(model, pruner)
    assert off(model) <= 0.501


def test_tfmots_schedule_objects_work_as_they_are():
    tfmot = schedules.tfmot_schedules()
    decay = tfmot.PolynomialDecay(0.2, 0.75, begin_step=2, end_step=18, frequency=5)
    model = models.cnn()
    history = fit(model, tfprune.Pruner(schedule=decay, allocation="uniform"))
    first = history.history["sparsity"][0]
    assert first == pytest.approx(float(decay(7)[1]), abs=0.01)
    assert off(model) <= 2  # rounded in each of four layers
    with pytest.raises(ValueError, match="leave the target out"):
        tfprune.Pruner("sparsity:0.5", schedule=decay)


def test_any_call_is_a_schedule():
    model = models.tiny()
    fit(model, tfprune.Pruner(schedule=lambda step: (step == 5, 0.75)))
    assert off(model) <= 0.501


def test_tfmots_schedule_objects_end_at_their_final_sparsity_too():
    """Off its frequency's grid, TFMOT's own training ends at the last update before the end."""
    decay = schedules.tfmot_schedules().PolynomialDecay(0.0, 0.75, 0, end_step=17, frequency=10)
    model = models.tiny()
    history = fit(model, tfprune.Pruner(schedule=decay), epochs=4).history["sparsity"]
    assert history[1] < 0.74
    assert history[2] == history[3] == pytest.approx(0.75, abs=1e-3)
    assert off(model) <= 0.501


def test_averages_do_not_choose_other_weights_when_training_ends():
    model = models.tiny()
    adam = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    pruner = tfprune.Pruner("sparsity:0.75", schedule="one_shot", end=1)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append([x.read() == 0 for x in k.find(model)[0]])
    )
    fit(model, pruner, look, optimizer=adam)
    for before, kernel in zip(seen[-1], k.find(model)[0], strict=True):
        np.testing.assert_array_equal(kernel.read() == 0, before)


def test_no_false_alarm_at_the_end(caplog):
    fit(models.tiny(), tfprune.Pruner("macs:0.5"))
    assert "before the schedule did" not in caplog.text


def test_an_early_end_still_reaches_the_target(caplog):
    model = models.tiny()
    fit(model, tfprune.Pruner("sparsity:0.75", end="10ep"), epochs=2)
    assert off(model) <= 0.501
    assert "before the schedule did" in caplog.text


def test_restored_weights_are_pruned_too():
    model = models.cnn()
    best = keras.callbacks.EarlyStopping("loss", patience=99, restore_best_weights=True)
    fit(model, best, tfprune.Pruner("sparsity:0.75"), optimizer=keras.optimizers.SGD(10.0))
    assert off(model) <= 0.501


def test_other_targets_follow_the_schedule_too():
    model = models.cnn()
    history = fit(model, tfprune.Pruner("compression:2.5", end="2ep")).history["sparsity"]
    assert history[0] < history[-1]
    facts = tfprune.measure(model)
    assert facts["nonzero_params"] == pytest.approx(facts["params"] / 2.5, abs=0.5)


def test_a_resumed_training_goes_on_in_the_schedule():
    """Epochs 0 and 1 in one run, 2 and 3 in another with a fresh optimizer."""
    pruner = {"schedule": "cosine", "end": "4ep", "frequency": 1}
    whole = models.tiny()
    expected = fit(whole, tfprune.Pruner("sparsity:0.75", **pruner), epochs=4).history["sparsity"]
    model = models.tiny()
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = models.images()
    resumed = model.fit(
        x,
        y,
        batch_size=8,
        initial_epoch=2,
        epochs=4,
        verbose=0,
        callbacks=[tfprune.Pruner("sparsity:0.75", **pruner)],
    )
    np.testing.assert_allclose(resumed.history["sparsity"], expected[2:], atol=1e-3)


def test_a_resumed_training_holds_what_was_pruned_before(tmp_path):
    """Stopped after the last update of the masks: they come back from the zeros."""
    words = {"schedule": "one_shot", "criterion": "random"}
    model = models.tiny()
    fit(model, tfprune.Pruner("sparsity:0.75", seed=1, **words), epochs=2)
    model.save(tmp_path / "stopped.keras")
    zeros = {x.name: x.read() == 0 for x in k.find(model)[0]}
    again = keras.saving.load_model(tmp_path / "stopped.keras")
    x, y = models.images()
    again.fit(
        x,
        y,
        batch_size=8,
        initial_epoch=2,
        epochs=3,
        verbose=0,
        callbacks=[tfprune.Pruner("sparsity:0.75", seed=1, end="1ep", **words)],
    )
    assert off(again) <= 0.501
    for before, kernel in zip(zeros.values(), k.find(again)[0], strict=True):
        np.testing.assert_array_equal(kernel.read() == 0, before)


def test_sparsity_is_in_the_progress_bar_history_and_tensorboard(tmp_path, capsys):
    model = models.tiny()
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = models.images()
    board = keras.callbacks.TensorBoard(tmp_path)
    pruner = tfprune.Pruner("sparsity:0.75")
    history = model.fit(x, y, epochs=2, batch_size=8, callbacks=[pruner, board])
    assert "sparsity: 0.75" in capsys.readouterr().out
    assert history.history["sparsity"][-1] == pytest.approx(0.75, abs=1e-3)
    events = [
        e
        for f in (tmp_path / "train").iterdir()
        for e in tf.compat.v1.train.summary_iterator(str(f))
    ]
    found = [
        float(tf.make_ndarray(v.tensor))
        for e in events
        for v in e.summary.value
        if v.tag == "epoch_sparsity"
    ]
    np.testing.assert_allclose(found, history.history["sparsity"], rtol=1e-6)


def test_a_data_set_of_unknown_length_asks_for_steps():
    model = models.tiny()
    x, y = models.images()
    data = tf.data.Dataset.from_generator(
        lambda: ((x[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)),
        output_signature=(tf.TensorSpec((None, 8, 8, 4)), tf.TensorSpec((None,), "int64")),
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="length is unknown"):
        model.fit(data, epochs=1, verbose=0, callbacks=[tfprune.Pruner("sparsity:0.75")])
    model.fit(data, epochs=2, verbose=0, callbacks=[tfprune.Pruner("sparsity:0.75", end=6)])
    assert off(model) <= 0.501


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"target": "sparsity:1.2"}, "up to, but not, 1"),
        ({"schedule": "linear"}, "unknown schedule"),
        ({"criterion": "magnitud"}, "Did you mean magnitude"),
        ({"end": "5 epochs"}, "no moment"),
        ({"begin": -1}, "no moment"),
        ({"frequency": 0}, "1 or more"),
        ({"target": None}, "is needed with a named schedule"),
        ({"min_keep": -1}, "min_keep"),
    ],
)
def test_wrong_words_are_errors_before_training(words, match):
    with pytest.raises(ValueError, match=match):
        tfprune.Pruner(**({"target": "sparsity:0.5"} | words))


def test_what_cant_be_reached_is_said_when_training_begins():
    model = models.cnn()
    with pytest.raises(ValueError, match="nearest that can"):
        fit(model, tfprune.Pruner("sparsity:0.9999"))
    assert not masks.of(model)
    assert density(model) == 1


def test_an_end_before_the_begin():
    with pytest.raises(ValueError, match="before it begins"):
        fit(models.cnn(), tfprune.Pruner("sparsity:0.5", begin="2ep", end=3))


def test_a_schedule_that_ends_after_training_says_what_will_be_reached(caplog):
    model = models.tiny()
    pruner = tfprune.Pruner("sparsity:0.75", schedule="cosine", end="6ep", frequency=1)
    fit(model, pruner)
    assert "reaches a sparsity of 0.3" in caplog.text
    assert "then pruned to sparsity:0.75 without training after it" in caplog.text
    assert off(model) <= 0.501
    caplog.clear()
    fit(models.tiny(), tfprune.Pruner("sparsity:0.75", end="2ep"))
    assert not caplog.text
