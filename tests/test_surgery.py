"""`shrink`: what goes, what is carried over, and what can't be done."""

import logging

import keras
import numpy as np
import pytest

import tfprune
from tests import models, surgeons
from tfprune import masks
from tfprune.graph import kernels as k

L = keras.layers


def pruned(model=None, target="params:0.5", **words):
    return tfprune.prune(model or models.cnn(), target, granularity="channel", **words)


def agree(a, b, x):
    np.testing.assert_allclose(a(x), b(x), rtol=1e-5, atol=1e-7)


def test_the_model_given_stays_as_it_is():
    model = pruned()
    before = model.get_weights()
    small = tfprune.shrink(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert small.count_params() < model.count_params()
    assert not masks.of(small)
    assert type(small) is type(model)
    assert [x.name for x in small.layers] == [x.name for x in model.layers]


def test_a_plain_file_comes_out(tmp_path):
    small = tfprune.shrink(pruned())
    small.save(tmp_path / "small.keras")
    loaded = keras.saving.load_model(tmp_path / "small.keras", safe_mode=True)
    agree(small, loaded, models.images(4)[0])


def test_it_works_on_a_file_that_lost_its_masks(tmp_path):
    """Masks are not saved, zeros are, and that is all that it looks at."""
    model = pruned()
    model.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    agree(model, tfprune.shrink(loaded), models.images(4)[0])


def test_masks_hold_whole_channels_through_training():
    model = pruned()
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = models.images()
    model.fit(x, y, epochs=2, verbose=0)
    agree(model, tfprune.shrink(model), x)


def test_a_channel_that_nothing_reads_can_go_whatever_makes_it():
    model = models.cnn()
    surgeons.randomise(model)
    kernel = model.get_layer("head").kernel
    kernel.assign(kernel.numpy() * (np.arange(16) >= 6)[:, None])
    small = tfprune.shrink(model)
    assert small.get_layer("pointwise").filters == 10
    agree(model, small, models.images(4)[0])


def test_a_channel_that_is_zero_can_go_whatever_reads_it():
    x = keras.Input((6,))
    y = L.Dense(8, activation="relu", name="a")(x)
    model = keras.Model(x, L.Dense(3, name="b")(y))
    surgeons.randomise(model)
    for weight in model.get_layer("a").weights:
        weight.assign(weight.numpy() * (np.arange(8) >= 3))
    small = tfprune.shrink(model)
    assert small.get_layer("a").units == 5
    agree(model, small, np.ones((2, 6), "float32"))


def test_a_channel_that_is_zero_but_not_behind_its_activation_stays():
    x = keras.Input((6,))
    y = L.Dense(8, activation="sigmoid", name="a")(x)
    model = keras.Model(x, L.Dense(3, name="b")(y))
    surgeons.randomise(model)
    for weight in model.get_layer("a").weights:
        weight.assign(weight.numpy() * (np.arange(8) >= 3))
    assert tfprune.shrink(model).get_layer("a").units == 8


def test_with_nothing_to_remove_a_copy_comes_back(caplog):
    model = pruned(target="params:1")
    small = tfprune.shrink(model)
    assert "no channel that is empty" in caplog.text
    assert small is not model
    agree(model, small, models.images(4)[0])


def test_one_channel_always_stays():
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3, name="b")(L.Dense(8, name="a")(x)))
    surgeons.randomise(model)
    kernel = model.get_layer("b").kernel
    kernel.assign(np.zeros(kernel.shape))
    small = tfprune.shrink(model)
    assert small.get_layer("a").units == 1
    agree(model, small, np.ones((2, 6), "float32"))


def test_other_zeros_keep_their_masks():
    model = tfprune.prune(models.cnn(), "sparsity:0.3")
    both = pruned(model, "params:0.7", criterion="random")
    small = tfprune.shrink(both)
    left = masks.of(small)
    assert left
    zeros = {x.name: x.read() == 0 for x in k.find(small)[0]}
    assert sum((~m).sum() for m in left.values()) == sum(z.sum() for z in zeros.values())


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam,
        lambda: keras.optimizers.SGD(momentum=0.9),
        lambda: keras.optimizers.RMSprop(momentum=0.5, centered=True),
        keras.optimizers.AdamW,
    ],
)
def test_the_optimizer_goes_on_where_it_was(optimizer, caplog):
    """A step of the small model equals that of the masked one, moments and all."""
    layers = [L.Conv2D(8, 3, activation="relu"), L.Conv2D(12, 3, activation="relu"), L.Flatten()]
    head = L.Dense(10, activation="softmax")
    model = keras.Sequential([keras.Input((8, 8, 4)), *layers, head])
    optimizer = optimizer()
    optimizer.learning_rate = 1e-3
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = models.images(32)
    model.fit(x, y, epochs=2, batch_size=16, verbose=0)
    tfprune.prune(model, "params:0.5", granularity="channel", in_place=True)
    with caplog.at_level(logging.INFO, "tfprune"):
        small = tfprune.shrink(model)
    assert "was cut along with the weights" in caplog.text
    assert int(small.optimizer.iterations) == int(model.optimizer.iterations) == 4
    for one in (model, small):
        one.fit(x[:16], y[:16], batch_size=16, shuffle=False, verbose=0)
    after = tfprune.shrink(model)
    for a, b in zip(after.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def test_an_optimizer_whose_state_does_not_follow_the_weights_starts_anew(caplog):
    model = models.cnn()
    model.compile(keras.optimizers.Adafactor(1e-3), "sparse_categorical_crossentropy")
    x, y = models.images(16)
    model.fit(x, y, verbose=0)
    tfprune.prune(model, "params:0.5", granularity="channel", in_place=True)
    small = tfprune.shrink(model)
    assert "starts anew" in caplog.text
    small.fit(x, y, verbose=0)


def test_what_can_not_be_shrunk():
    with pytest.raises(ValueError, match=r"'subclassed.*subclassed.*keras.Model\(inputs, outputs"):
        tfprune.shrink(models.subclassed())
    with pytest.raises(ValueError, match="not built"):
        tfprune.shrink(keras.Sequential([L.Dense(2)]))
    first = keras.Sequential([keras.Input((4, 8, 8)), L.Conv2D(4, 1, data_format="channels_first")])
    with pytest.raises(ValueError, match="channels_first"):
        tfprune.shrink(first)
    x = keras.Input((4,))
    frozen = keras.Model(x, L.Dense(3)(L.Lambda(lambda t: t * 2, name="own")(L.Dense(5)(x))))
    with pytest.raises(ValueError, match=r"every channel is frozen.*Lambda 'own'"):
        tfprune.shrink(frozen)


@pytest.mark.parametrize("schedule", ["polynomial", "iterative(2)"])
def test_a_schedule_leaves_whole_channels_too(schedule):
    """`Pruner` prunes them along the way; what it leaves can be shrunk."""
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = models.images()
    pruner = tfprune.Pruner("macs:0.5", granularity="channel", schedule=schedule, frequency=1)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[pruner])
    small = tfprune.shrink(model)
    agree(model, small, x)
    plan = pruner.plan(models.cnn())
    one = max(layer.sizes.max() for layer in plan.scores().layers)
    macs = [tfprune.measure(m)["macs"] for m in (model, small)]
    assert abs(macs[1] - macs[0] / 2) <= one * 64 / 2


def test_a_schedule_holds_biases_and_scales_as_well():
    """Masks are there before the first step is traced: what a channel carries stays zero."""
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = models.images()
    pruner = tfprune.Pruner("macs:0.5", granularity="channel", schedule="one_shot", begin=1)
    model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[pruner])
    held = masks.of(model)
    assert {name.split("/")[-1] for name in held} == {"kernel", "bias", "gamma", "beta"}
    variables = k.named(model)
    for name, mask in held.items():
        assert not variables[name].numpy()[~mask].any()
        assert variables[name].numpy()[mask].any()
