"""Shared weights: what the constraint does in training, and what `share` clusters."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tests import models
from tfprune import masks, sharing
from tfprune.graph import kernels as k

L = keras.layers


def values(model):
    """Returns {name: how many different values} of the kernels."""
    return {x.name: len(np.unique(x.read())) for x in k.find(model)[0]}


def line(outputs=2, **words):
    """Returns one Dense layer of 6 x outputs weights and no bias."""
    return keras.Sequential(
        [keras.Input((6,)), L.Dense(outputs, use_bias=False, name="d", **words)]
    )


def fit(model, optimizer="adam"):
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    x, y = models.images()
    model.fit(x, y, batch_size=16, verbose=0)


def kernel_of(model):
    """Returns the kernel of a `line`."""
    return model.get_layer("d").kernel


def attach(model, clusters):
    sharing.attach(model, {kernel_of(model).path: clusters})


def gradient(model, x, y):
    """Returns the mean squared error's gradient of a `line`, by hand."""
    weight = kernel_of(model).numpy().astype(float)
    return 2 * x.T @ (x @ weight - y) / y.size


def stepped(model, *, jit=False):
    """Returns kernel and gradient before, and the kernel after a step of SGD at a rate of 0.5."""
    rng = np.random.default_rng(0)
    before = kernel_of(model).numpy()
    x, y = rng.normal(size=(8, 6)), rng.normal(size=(8, before.shape[1]))
    slope = gradient(model, x, y)
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=jit)
    model.train_on_batch(x, y)
    return before, slope, kernel_of(model).numpy()


@pytest.mark.parametrize("jit", [True, False])
def test_a_cluster_moves_by_the_mean_gradient(jit):
    model = line()
    before, clusters = kernel_of(model).numpy(), np.arange(12).reshape(6, 2) % 3 + 1
    attach(model, clusters)
    start, slope, after = stepped(model, jit=jit)
    for c in (1, 2, 3):
        of = clusters == c
        np.testing.assert_allclose(start[of], before[of].mean(), rtol=1e-6)
        assert len(set(start[of])) == len(set(after[of])) == 1
        np.testing.assert_allclose(after[of], start[of] - 0.5 * slope[of].mean(), rtol=1e-6)


@pytest.mark.parametrize("first", ["mask", "sharing"])
def test_what_a_mask_prunes_is_no_member(first):
    model = line()
    clusters = np.arange(12).reshape(6, 2) % 2 + 1
    mask = np.random.default_rng(1).random((6, 2)) < 0.6
    if first == "sharing":
        attach(model, clusters)
    masks.attach(model, {kernel_of(model).path: mask})
    if first == "mask":
        attach(model, clusters)
    before, slope, after = stepped(model)
    assert isinstance(kernel_of(model).constraint, masks.MaskConstraint)
    assert not after[~mask].any()
    for c in (1, 2):
        of = mask & (clusters == c)
        assert len(set(after[of])) == 1
        np.testing.assert_allclose(after[of], before[of] - 0.5 * slope[of].mean(), rtol=1e-6)


def test_cluster_zero_stays_zero():
    model = line()
    clusters = np.arange(12).reshape(6, 2) % 3
    attach(model, clusters)
    before, _, after = stepped(model)
    np.testing.assert_array_equal(before == 0, clusters == 0)
    np.testing.assert_array_equal(after == 0, clusters == 0)


def test_means_of_equal_values_are_exactly_these():
    """A sum of 300 000 times 0.1 in float32 is off by some per cent."""
    layer = L.Dense(500, use_bias=False, name="d")
    model = keras.Sequential([keras.Input((600,)), layer])
    layer.kernel.assign(np.full((600, 500), 0.1))
    attach(model, np.ones((600, 500), int))
    layer.kernel.assign(layer.kernel.constraint(layer.kernel))
    np.testing.assert_array_equal(layer.kernel, np.float32(0.1))


@pytest.mark.parametrize("kind", models.KINDS)
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_every_kind_of_layer(kind, per):
    model, _ = models.kind(kind)
    others = [w for w in model.weights if w.name == "bias"]
    for weight in others:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    biases = [w.numpy() for w in others]
    before = {x.name: x.read() for x in k.find(model)[0]}
    sharing.share(model, 4, per=per)
    shared = sharing.of(model)
    for kernel in k.find(model)[0]:
        old, new = before[kernel.name], kernel.read()
        axes = (1,) if per == "channel" else ()
        columns = new.reshape((-1, new.shape[-1]) if axes else (-1, 1))
        if len(columns) < 4:
            np.testing.assert_array_equal(new, old)
            assert kernel.name not in shared
        else:
            assert all(len(set(column)) == 4 for column in columns.T)
    for weight, bias in zip(others, biases, strict=True):
        np.testing.assert_array_equal(weight, bias)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Lion"])
def test_values_stay_few_under_every_optimizer(name):
    model = models.tiny()
    sharing.share(model, 5)
    start = [x.read() for x in k.find(model)[0]]
    fit(model, getattr(keras.optimizers, name)(0.01))
    assert set(values(model).values()) == {5}
    assert all((x.read() != old).all() for x, old in zip(k.find(model)[0], start, strict=True))


@pytest.mark.parametrize("make", [models.cnn, models.nested, models.subclassed])
def test_every_kind_of_model(make):
    model = make()
    sharing.share(model, 6)
    fit(model)
    assert max(values(model).values()) == 6


def test_it_reaches_a_train_step_that_was_traced_before():
    model = models.tiny()
    fit(model)
    x, y = models.images()
    for n in (5, 3):
        sharing.share(model, n)
        model.fit(x, y, verbose=0)
        assert set(values(model).values()) == {n}
    tfprune.detach(model)
    model.fit(x, y, verbose=0)
    sharing.share(model, 7)
    model.fit(x, y, verbose=0)
    assert set(values(model).values()) == {7}


def test_gradient_accumulation():
    model = models.tiny()
    sharing.share(model, 5)
    fit(model, keras.optimizers.Adam(gradient_accumulation_steps=3))
    assert set(values(model).values()) == {5}


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = models.tiny()
        sharing.share(model, 5)
        fit(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert set(values(model).values()) == {5}


def test_two_replicas():
    cpus = tf.config.list_logical_devices("CPU")
    if len(cpus) < 2:
        pytest.skip("needs two virtual CPUs, which are set up before TensorFlow starts")
    strategy = tf.distribute.MirroredStrategy([cpu.name for cpu in cpus[:2]])
    with strategy.scope():
        model = models.tiny()
        model.compile("adam", "sparse_categorical_crossentropy")
    mask = np.arange(288).reshape(3, 3, 4, 8) % 3 > 0
    masks.attach(model, {model.get_layer("conv").kernel.path: mask})
    sharing.share(model, 5)
    x, y = models.images()
    model.fit(x, y, batch_size=8, verbose=0)
    for kernel in k.find(model)[0]:
        first, second = (v.numpy() for v in kernel.variable.value.values)
        np.testing.assert_array_equal(first, second)
        assert len(np.unique(first)) == 5


def test_a_users_own_constraint_comes_first_and_comes_back():
    own = keras.constraints.NonNeg()
    model = line(kernel_constraint=own)
    clusters = np.arange(12).reshape(6, 2) % 2 + 1
    attach(model, clusters)
    masks.attach(model, {kernel_of(model).path: np.arange(12).reshape(6, 2) > 2})
    before, slope, after = stepped(model)
    free = np.maximum(before - 0.5 * slope, 0)
    of = (clusters == 1) & (after != 0)
    np.testing.assert_allclose(after[of], free[of].mean(), rtol=1e-6)
    tfprune.detach(model)
    assert kernel_of(model).constraint is own
    _, _, after = stepped(model)
    assert len(np.unique(after)) > 3


def test_a_second_call_changes_nothing_and_a_smaller_number_does():
    model = models.cnn()
    sharing.share(model, 8, per="channel")
    weights, clusters = model.get_weights(), sharing.of(model)
    constraints = [w.constraint for w in model.weights]
    sharing.share(model, 8, per="channel")
    assert [w.constraint for w in model.weights] == constraints
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    for name, new in sharing.of(model).items():
        np.testing.assert_array_equal(new, clusters[name])
    sharing.share(model, 3)
    assert values(model)["cnn/conv/kernel"] == 3


def test_zeros_are_one_of_the_values_unless_told_otherwise():
    pruned = tfprune.prune(models.cnn(), "sparsity:0.6", allocation="uniform")
    zeros = {x.name: x.read() == 0 for x in k.find(pruned)[0]}
    for preserve in (True, False):
        model = tfprune.cluster_weights(pruned, 4, preserve_zeros=preserve)
        for kernel in k.find(model)[0]:
            np.testing.assert_array_equal(kernel.read() == 0, zeros[kernel.name])
        assert set(values(model).values()) == {4}
    tfprune.detach(pruned)  # without masks zeros are values like all others
    model = tfprune.cluster_weights(pruned, 4, preserve_zeros=False)
    assert set(values(model).values()) == {4}
    assert all((clusters > 0).all() for clusters in sharing.of(model).values())


def test_a_constant_kernel_is_one_value():
    model = line()
    kernel_of(model).assign(np.full((6, 2), 0.25))
    sharing.share(model, 4)
    _, slope, after = stepped(model)
    np.testing.assert_allclose(after, 0.25 - 0.5 * slope.mean(), rtol=1e-6)


def test_what_is_protected_or_too_small_is_left_and_said(caplog):
    model = models.cnn()
    before = {x.name: x.read() for x in k.find(model)[0]}
    with caplog.at_level("INFO", "tfprune"):
        sharing.share(model, 16, per="channel", protect="head")
    left = {"cnn/depthwise/kernel", "cnn/pointwise/kernel", "cnn/head/kernel"}
    assert set(sharing.of(model)) == set(before) - left
    for kernel in k.find(model)[0]:
        assert (kernel.read() == before[kernel.name]).all() == (kernel.name in left)
    assert "cnn/depthwise/kernel: 9 weights a channel, fewer than n_clusters=16" in caplog.text
    assert "cnn/head/kernel: protected" in caplog.text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"n_clusters": 0}, "n_clusters=0: a whole number, 2 or more"),
        ({"n_clusters": 1}, "n_clusters=1: a whole number, 2 or more"),
        ({"n_clusters": 2.5}, r"n_clusters=2\.5: a whole number"),
        (
            {"initialisation": "kmeans"},
            r"unknown initialisation 'kmeans'\. Did you mean kmeans\+\+",
        ),
        ({"per": "chanel"}, "Did you mean channel"),
        ({"protect": "haed"}, "Did you mean head"),
        ({"protect": "*"}, "no kernel whose weights can be shared.*protected"),
        ({"n_clusters": 1000}, "288 weights a tensor, fewer than n_clusters=1000"),
    ],
)
def test_wrong_words(words, match):
    model = models.cnn()
    with pytest.raises(ValueError, match=match):
        tfprune.cluster_weights(model, **words)


def test_nan_weights_name_the_layer_and_nothing_changes():
    model = models.cnn()
    bad = model.get_layer("pointwise").kernel
    bad.assign(np.full(bad.shape, np.nan))
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"'pointwise'.*NaN"):
        tfprune.cluster_weights(model, in_place=True)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not sharing.of(model)
