"""GroupSparsity against penalties and gradients written out by hand."""

import json
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import models
from tfprune.callbacks.group_sparsity import KINDS, GroupSparsity
from tfprune.graph.channels import Channels

L = keras.layers
STRENGTH = 0.01


def residual(**settings):
    """a -> norm -> (+ b of it) -> flatten -> head: one group of three channels, twice produced."""
    x = keras.Input((2, 2, 2))
    y = L.BatchNormalization(name="norm")(L.Conv2D(3, 1, name="a", **settings)(x))
    y = L.Add()([y, L.Conv2D(3, 3, padding="same", use_bias=False, name="b")(y)])
    y = L.Dense(4, activation="softmax", name="head", dtype="float32")(L.Flatten()(y))
    model = keras.Model(x, y)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) + 0.1 * (w.ndim == 1) for w in model.get_weights()])
    for name in ("norm/moving_variance",):
        next(w for w in model.weights if w.path == name).assign(np.ones(3))
    return model


def values(model):
    return {"/".join(w.path.split("/")[-2:]): w.numpy() for w in model.trainable_variables}


# What channel k of `residual` carries: (variable, index of its slice). Its head rows are k::3.
def carried(k):
    return [
        ("a/kernel", np.s_[..., k]),
        ("a/bias", np.s_[k]),
        ("norm/gamma", np.s_[k]),
        ("norm/beta", np.s_[k]),
        ("b/kernel", np.s_[..., k]),
        ("b/kernel", np.s_[..., k, :]),
        ("head/kernel", np.s_[k::3, :]),
    ]


def squares(weights):
    return np.array([sum(np.sum(weights[n][i] ** 2) for n, i in carried(k)) for k in range(3)])


def by_hand(kind, weights):
    """Returns the penalty without its strength, and {path: its gradient}."""
    gradient = {name: np.zeros_like(w) for name, w in weights.items()}
    if kind == "bn_l1":
        gradient["norm/gamma"] = np.sign(weights["norm/gamma"])
        return np.abs(weights["norm/gamma"]).sum(), gradient
    norms = np.sqrt(squares(weights))
    if kind == "growing_l2":
        factor = 2 ** (4 * (norms.max() - norms) / (norms.max() - norms.min()))
        value = (factor * norms**2 / 2).sum()
    else:
        # 2 + 1 + 1 + 1 + 3 * 9 twice + 4 rows of 4 in the head
        factor = np.sqrt(2 + 1 + 1 + 1 + 27 + 27 + 16) / norms
        value = (factor * norms**2).sum()
    for k in range(3):
        for name, index in carried(k):
            gradient[name][index] += factor[k] * weights[name][index]
    return value, gradient


def zero_loss(y, p):
    return 0.0 * tf.reduce_mean(p, axis=-1)


def step(model, *callbacks, epochs=1, optimizer=None, **compilation):
    """One plain step of SGD at rate 1 an epoch, with no loss but the penalties."""
    compilation = compilation or {"run_eagerly": True}  # nothing to trace, which takes longest
    model.compile(optimizer or keras.optimizers.SGD(1.0), zero_loss, **compilation)
    x = np.random.default_rng(0).random((8, *model.input_shape[1:]), np.float32)
    data = (x, np.zeros(8))
    return model.fit(*data, batch_size=8, epochs=epochs, verbose=0, callbacks=list(callbacks))


def check_step(model, kind, before, history, rtol=2e-5):
    value, gradient = by_hand(kind, before)
    np.testing.assert_allclose(history.history["loss"][0], STRENGTH * value, rtol=rtol)
    for name, after in values(model).items():
        expected = before[name] - STRENGTH * gradient[name]
        np.testing.assert_allclose(after, expected, rtol=rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compilation", [{"jit_compile": False}, {"run_eagerly": True}])
def test_value_and_step_by_hand(kind, compilation):
    model = residual()
    before = values(model)
    history = step(model, GroupSparsity(kind, strength=STRENGTH), **compilation)
    check_step(model, kind, before, history)


def test_xla():
    model = residual()
    before = values(model)
    history = step(model, GroupSparsity("group_lasso", strength=STRENGTH), jit_compile=True)
    check_step(model, "group_lasso", before, history)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("growing_l2", "mixed_float16"),
        ("group_lasso", "mixed_bfloat16"),
    ],
)
def test_mixed_precision(kind, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = residual()
        before = values(model)
        history = step(model, GroupSparsity(kind, strength=STRENGTH), jit_compile=False)
    finally:
        keras.config.set_dtype_policy("float32")
    check_step(model, kind, before, history)


def test_two_replicas():
    kind = "growing_l2"
    cpus = [cpu.name for cpu in tf.config.list_logical_devices("CPU")[:2]]
    # Collective ops of several strategies in one process get into each other's way.
    ops = tf.distribute.ReductionToOneDevice()
    with tf.distribute.MirroredStrategy(cpus, cross_device_ops=ops).scope():
        model = residual()
        sgd = keras.optimizers.SGD(1.0)
    before = values(model)
    history = step(model, GroupSparsity(kind, strength=STRENGTH), optimizer=sgd, jit_compile=False)
    check_step(model, kind, before, history)


def test_the_logged_penalty_is_that_of_the_weights_after_the_epoch():
    model = residual()
    history = step(model, GroupSparsity("group_lasso", strength=STRENGTH), epochs=3).history
    last = STRENGTH * by_hand("group_lasso", values(model))[0]
    np.testing.assert_allclose(history["group_penalty"][-1], last, rtol=1e-5)
    np.testing.assert_allclose(history["group_penalty"][:-1], history["loss"][1:], rtol=1e-5)


def test_growing_factors_are_computed_anew_each_epoch_and_traced_once():
    model = residual()
    traces = []
    kernel = model.get_layer("a").kernel
    kernel.regularizer = lambda value: traces.append(1) or 0.0 * tf.reduce_sum(value)
    expected = values(model)
    counts = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(len(traces)))
    seen = []
    step(model, GroupSparsity(strength=STRENGTH), counts, epochs=4, jit_compile=False)
    for _ in range(4):
        gradient = by_hand("growing_l2", expected)[1]
        expected = {n: w - STRENGTH * gradient[n] for n, w in expected.items()}
    for name, after in values(model).items():
        np.testing.assert_allclose(after, expected[name], rtol=1e-4, atol=1e-6)
    assert seen[0] == seen[-1]


def test_alpha_is_how_many_doublings_lie_between_the_channels():
    model = residual()
    before = values(model)
    step(model, GroupSparsity(strength=STRENGTH, alpha=2.0))
    low, high = np.argmin(squares(before)), np.argmax(squares(before))
    shrunk = 1 - values(model)["norm/gamma"] / before["norm/gamma"]
    np.testing.assert_allclose(shrunk[low], 4 * STRENGTH, rtol=1e-4)
    np.testing.assert_allclose(shrunk[high], STRENGTH, rtol=1e-4)


def test_equal_channels_shrink_alike():
    model = residual()
    model.set_weights([np.full(w.shape, 0.5) for w in model.get_weights()])
    step(model, GroupSparsity(strength=STRENGTH))
    expected = np.full(3, 0.5 * (1 - STRENGTH))
    np.testing.assert_allclose(values(model)["norm/gamma"], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_of_zeros_rests_at_zero(kind):
    model = residual()
    for variable in model.trainable_variables:
        value = variable.numpy()
        for name, index in carried(1):
            if variable.path == name:
                value[index] = 0
        variable.assign(value)
    before = values(model)
    history = step(model, GroupSparsity(kind, strength=STRENGTH), epochs=2)
    assert np.isfinite(history.history["loss"]).all()
    after = values(model)
    assert all(np.isfinite(w).all() for w in after.values())
    for name, index in carried(1):
        assert not after[name][index].any()
    assert np.any(after["norm/gamma"] != before["norm/gamma"])


def test_channels_that_cant_go_and_statistics_take_no_part():
    model = residual()
    model.get_layer("norm").trainable = False
    statistics = model.get_layer("norm").moving_mean.numpy()
    bias, gamma = (model.get_layer(n).weights[i].numpy() for n, i in (("head", 1), ("norm", 0)))
    step(model, GroupSparsity(strength=STRENGTH))
    np.testing.assert_array_equal(model.get_layer("norm").moving_mean, statistics)
    np.testing.assert_array_equal(model.get_layer("norm").gamma, gamma)
    np.testing.assert_array_equal(model.get_layer("head").bias, bias)


def two_groups():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(6, 3, name="first"),
            L.DepthwiseConv2D(3, name="depthwise"),
            L.BatchNormalization(name="norm"),
            L.Conv2D(5, 3, name="second"),
            L.GlobalAveragePooling2D(),
            L.Dense(3, activation="softmax", name="head"),
        ]
    )


@pytest.mark.parametrize(
    ("protect", "still"),
    [
        # Groups that a protected layer makes or passes are left out everywhere, and so is what it
        # reads others with.
        ("first", {"first", "depthwise", "norm"}),
        (["depth*"], {"first", "depthwise", "norm"}),
        (("second",), {"second", "head"}),
        (["head"], {"head"}),
    ],
)
def test_protected_layers_are_left_alone(protect, still):
    model = two_groups()
    before = values(model)
    step(model, GroupSparsity(strength=STRENGTH, protect=protect))
    for layer in ("first", "depthwise", "norm", "second", "head"):
        name = f"{layer}/{'gamma' if layer == 'norm' else 'kernel'}"
        assert np.any(values(model)[name] != before[name]) == (layer not in still), layer


def test_a_users_own_regularizer_counts_and_comes_back():
    own = keras.regularizers.L2(0.5)
    model = residual(kernel_regularizer=own)
    kernel = model.get_layer("a").kernel
    assert model.trainable_variables[0] is kernel  # it is the one that carries the penalty
    before = values(model)
    value, gradient = by_hand("group_lasso", before)
    history = step(model, GroupSparsity("group_lasso", strength=STRENGTH)).history
    w = before["a/kernel"]
    expected = STRENGTH * value + 0.5 * np.sum(w**2)
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)
    expected = w - STRENGTH * gradient["a/kernel"] - w
    np.testing.assert_allclose(kernel.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert kernel.regularizer is own


def config(model):
    return json.loads(model.to_json())["config"]


def test_nothing_is_left_after_training(tmp_path):
    model = residual()
    model.compile(keras.optimizers.SGD(1.0), zero_loss)
    x, y = np.ones((8, 2, 2, 2), "float32"), np.zeros(8)
    model.fit(x, y, verbose=0)  # traced without the penalty, as is the next
    assert model.evaluate(x, y, verbose=0) == 0
    saving = keras.callbacks.ModelCheckpoint(tmp_path / "during.keras")
    penalty = GroupSparsity(strength=STRENGTH)
    history = model.fit(
        x, y, validation_data=(x, y), epochs=2, verbose=0, callbacks=[penalty, saving]
    ).history
    assert history["loss"][0] > 0
    np.testing.assert_allclose(history["val_loss"], history["group_penalty"], rtol=1e-5)
    assert all(v.regularizer is None for v in model.trainable_variables)
    assert not model.losses
    after = values(model)
    assert model.evaluate(x, y, verbose=0) == 0
    assert model.fit(x, y, verbose=0).history["loss"] == [0]
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, after[name])
    model.save(tmp_path / "after.keras")
    for name in ("during", "after"):
        loaded = keras.saving.load_model(tmp_path / f"{name}.keras", compile=False)
        assert config(loaded) == config(model)
        assert len(loaded.weights) == len(model.weights)
        assert not loaded.losses


def test_two_kinds_at_once():
    model = residual()
    before = values(model)
    kinds = ("group_lasso", "bn_l1")
    history = step(model, *(GroupSparsity(kind, strength=STRENGTH) for kind in kinds)).history
    expected = STRENGTH * sum(by_hand(kind, before)[0] for kind in kinds)
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-5)
    assert model.trainable_variables[0].regularizer is None


def test_an_interrupted_training_counts_no_penalty_twice():
    model = residual()

    def stop(batch, logs):
        raise KeyboardInterrupt

    interrupt = keras.callbacks.LambdaCallback(on_train_batch_begin=stop)
    with pytest.raises(KeyboardInterrupt):
        step(model, GroupSparsity(strength=STRENGTH), interrupt)
    before = values(model)
    history = step(model, GroupSparsity(strength=STRENGTH))
    check_step(model, "growing_l2", before, history)
    assert model.trainable_variables[0].regularizer is None


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"kind": "growing"}, "Did you mean growing_l2"),
        ({"strength": 0}, "strength=0: a number above 0"),
        ({"strength": -1e-4}, "above 0"),
        ({"strength": float("nan")}, "above 0"),
        ({"alpha": -1.0}, "alpha"),
    ],
)
def test_wrong_words_are_errors_before_training(words, match):
    with pytest.raises(ValueError, match=match):
        GroupSparsity(**words)


@pytest.mark.parametrize(
    ("make", "words", "match"),
    [
        (residual, {"protect": ["normm"]}, "Did you mean norm"),
        (residual, {"protect": ["a"]}, "no channels to regularise .*a: protected"),
        (lambda: keras.Sequential([keras.Input((2,)), L.Dense(2)]), {}, "the model's output"),
        (lambda: keras.Sequential([keras.Input((2, 2, 2)), L.ReLU()]), {}, "no trainable|no layer"),
        (
            lambda: keras.Sequential([keras.Input((2,)), L.Dense(2), L.Dense(2)]),
            {"kind": "bn_l1"},
            "no trainable weight of this kind",
        ),
        (models.subclassed, {}, "subclassed"),
    ],
)
def test_what_cant_be_regularised_is_said_when_training_begins(make, words, match):
    model = make()
    model.compile("sgd", "mse")
    shape = (8, *(model.input_shape[1:] if make is not models.subclassed else (8, 8, 4)))
    out = model(np.zeros(shape)).shape
    with pytest.raises(ValueError, match=match):
        model.fit(np.zeros(shape), np.zeros(out), verbose=0, callbacks=[GroupSparsity(**words)])
    assert all(v.regularizer is None for v in model.variables)


def task():
    """Targets that depend on two of eight inputs: few channels are needed to tell them."""
    x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
    return x, np.stack([np.maximum(x[:, 0], 0) - x[:, 1], x[:, 0] * 0.5], 1)


def mlp():
    return keras.Sequential(
        [
            keras.Input((8,)),
            L.Dense(16, name="hidden"),
            L.BatchNormalization(name="norm"),
            L.ReLU(),
            L.Dense(2, name="head"),
        ]
    )


def spread(model, only_scale=False):
    """Returns the channels' norms over the largest, ascending."""
    w = values(model)
    parts = [w["norm/gamma"][None]]
    if not only_scale:
        parts += [w["hidden/kernel"], w["hidden/bias"][None], w["norm/beta"][None]]
        parts += [w["head/kernel"].T]
    norms = np.sort(np.sqrt(sum(np.square(p).sum(0) for p in parts)))
    return norms / norms.max()


def trained(*callbacks):
    keras.utils.set_random_seed(0)
    model, (x, y) = mlp(), task()
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=False)
    model.fit(x, y, epochs=12, batch_size=16, verbose=0, callbacks=list(callbacks))
    error = float(np.mean((model.predict(x, verbose=0) - y) ** 2))
    return model, error / float(np.var(y))


@pytest.fixture(scope="module")
def plain():
    return trained()


@pytest.mark.parametrize(
    ("kind", "strength"), [("growing_l2", 0.007), ("group_lasso", 2.5e-3), ("bn_l1", 0.02)]
)
def test_channels_become_unequal(kind, strength, plain):
    """What few channels can do is left to few, where training alone uses them all."""
    model, error = trained(GroupSparsity(kind, strength=strength))
    low, before = (np.quantile(spread(m, kind == "bn_l1"), 0.25) for m in (model, plain[0]))
    assert low < before / 4
    assert error < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_the_count_of_channels_near_zero_is_logged(kind, caplog):
    model = residual()
    for variable in model.trainable_variables:
        value = variable.numpy()
        for name, index in carried(2):
            if variable.path == name:
                value[index] *= 1e-5
        variable.assign(value)
    with caplog.at_level(logging.INFO, "tfprune"):
        step(model, GroupSparsity(kind, strength=1e-9))
    assert "1 of 3 channels are below 0.001 of their group's largest" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_every_group_of_a_network_is_reached(kind):
    model = models.cnn()
    before = values(model)
    step(model, GroupSparsity(kind, strength=STRENGTH))
    reached = {
        m.slices.variable.path.partition("/")[2]
        for group in Channels(model).groups()
        if not group.frozen
        for m in group.members
        if m.slices.variable.trainable and (kind != "bn_l1" or "gamma" in m.slices.variable.path)
    }
    changed = {p for p, value in values(model).items() if np.any(value != before[p])}
    started = {p for p in reached if before[p].any()}  # biases begin at zero
    assert changed == started


@pytest.mark.parametrize("name", ["lstm", "attention", "separable2d", "conv2d_transpose"])
def test_other_layers(name):
    """The penalty of all that the first layer's channels carry falls by a step down its slope."""
    model, _ = models.kind(name)
    group = GroupSparsity("group_lasso", strength=STRENGTH)
    history = step(model, group, epochs=2, optimizer=keras.optimizers.SGD(0.1)).history
    assert 0 < history["loss"][1] < history["loss"][0]
