"""Every trial against the loss of the model with those weights set to zero."""

import gc
import weakref

import keras
import numpy as np
import pytest

from tests import models, surgeons
from tfprune import planning
from tfprune.planning import trial as trials

L = keras.layers


def plan_of(model, x, y, granularity="filter"):
    recipe = planning.Recipe.of(None, criterion="oracle", granularity=granularity)
    return recipe.bind(model, data=(x, y))


def count(plan):
    return len(plan.groups if plan.recipe.coupled else plan.kernels)


def losses(model, x, y):
    found = keras.losses.sparse_categorical_crossentropy(y, model(x, training=False))
    return keras.ops.convert_to_numpy(found)


def by_hand(model, x, y, kept):
    """Returns the change of the losses with these masks, {kernel: mask}, in the model itself."""
    before, usual = model.get_weights(), losses(model, x, y)
    for kernel, mask in kept.items():
        kernel.variable.assign(kernel.variable * kernel.restore(mask))
    result = losses(model, x, y) - usual
    model.set_weights(before)
    return result


def agrees(model, x, y, granularity="filter", arms=3):
    """Asserts that some units of each layer have the change of loss that masking them makes."""
    plan = plan_of(model, x, y, granularity)
    before = model.get_weights()
    rng = np.random.default_rng(0)
    largest = 0.0
    for index in range(count(plan)):
        trial = plan.trial(index)
        chosen = rng.permutation(trial.count)[:arms]
        masks = trial._without(np.arange(trial.count) == chosen[:, None])
        given, labels = next(trial.examples())
        found = trial.on(given, labels)(chosen)
        assert found.shape == (len(chosen), len(y))
        for arm in range(len(chosen)):
            expected = by_hand(model, x, y, {k: masks[k.name][arm] for k in trial.kernels})
            np.testing.assert_allclose(found[arm], expected, atol=1e-5)
            largest = max(largest, np.abs(expected).max())
    assert largest > 1e-3  # masking did something
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("granularity", ["weight", "block(2, 2)", "n_m(1, 4)", "filter", "channel"])
def test_every_granularity(granularity):
    model = models.cnn()
    surgeons.randomise(model)
    agrees(model, *models.images(12), granularity)


KINDS = ["dense", "conv1d", "conv2d_grouped", "conv3d", "depthwise2d", "separable2d"]
KINDS += ["conv2d_transpose", "einsum", "gru", "time_distributed", "embedding", "attention"]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_layer(name):
    model, shape = models.kind(name)
    surgeons.randomise(model)
    x = surgeons.inputs(model, 6)
    assert x.shape[1:] == shape
    agrees(model, x, np.arange(6) % 10, "weight", arms=2)


@pytest.mark.parametrize("make", [models.nested, models.subclassed])
def test_shared_layers_and_models_without_a_graph(make):
    model = make()
    surgeons.randomise(model)
    agrees(model, *models.images(6))


def test_branches_that_meet_again():
    x = keras.Input((6, 6, 4))
    y = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    z = L.Conv2D(8, 3, padding="same")(y) + keras.ops.relu(L.Conv2D(8, 1)(x))
    z = L.Flatten()(L.Concatenate()([L.Add()([z, y]), x]))
    model = keras.Model(x, L.Activation("softmax")(L.Dense(10)(z)))
    surgeons.randomise(model)
    for granularity in ("filter", "channel"):
        agrees(model, *models.images(6, shape=(6, 6, 4)), granularity)


def test_several_inputs_by_name():
    inputs = {name: keras.Input((3,), name=name) for name in ("b", "a")}
    y = L.Concatenate()([L.Dense(4)(inputs["b"]), inputs["a"]])
    model = keras.Model(inputs, L.Dense(10, activation="softmax")(y))
    surgeons.randomise(model)
    agrees(model, surgeons.inputs(model, 6), np.arange(6))


def test_examples_that_share_an_axis_with_others():
    x = keras.Input((6, 4))
    y = L.Dense(5)(keras.ops.reshape(x, (-1, 4)))
    y = keras.ops.reshape(y, (-1, 30))
    model = keras.Model(x, L.Dense(10, activation="softmax")(y))
    surgeons.randomise(model)
    agrees(model, *models.images(6, shape=(6, 4)))


def test_masked_time_steps():
    layers = [L.Embedding(6, 5, mask_zero=True), L.SimpleRNN(4), L.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((7,), dtype="int32"), *layers])
    surgeons.randomise(model)
    x = np.tril(np.ones((7, 7), "int32")) * (1 + np.arange(7) % 5)
    agrees(model, x, np.arange(7))


def test_rows_and_narrow_passes_give_the_same(monkeypatch):
    model = models.cnn()
    surgeons.randomise(model)
    trial = plan_of(model, *models.images(12)).trial(0)
    x, y = next(trial.examples())
    whole = trial.on(x, y)(np.arange(8))
    monkeypatch.setattr(trials, "_WIDTH", 9)
    changes = trial.on(x, y)
    for rows in (slice(0, 3), slice(3, 12)):
        np.testing.assert_allclose(changes(np.arange(8), rows), whole[:, rows], atol=1e-5)


def test_the_model_is_as_it_was_even_after_an_error():
    model = models.cnn()
    surgeons.randomise(model)
    x, y = models.images(6)
    before, usual = model.get_weights(), losses(model, x, y)
    trial = plan_of(model, x, y).trial(1)
    wrong = trials.Trial(
        trial._calibration,
        trial.kernels,
        trial.count,
        lambda units: {trial.kernels[0].name: np.ones((len(units), 2, 2, 1, 8), bool)},
    )
    with pytest.raises(ValueError, match="reshape"):
        wrong.on(*next(trial.examples()))(np.arange(2))
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(losses(model, x, y), usual)


def test_weights_that_change_between_trials_count():
    model = models.cnn()
    surgeons.randomise(model)
    plan = plan_of(model, *models.images(6))
    given = next(plan.trial(0).examples())
    before = plan.trial(0).on(*given)(np.arange(2))
    surgeons.randomise(model, seed=1)
    after = plan.trial(0).on(*given)(np.arange(2))
    assert np.abs(after - before).max() > 1e-3
    agrees(model, *models.images(6))


def test_what_was_compiled_goes_with_the_plan():
    model = models.cnn()
    plan = plan_of(model, *models.images(6))
    trial = plan.trial(0)
    trial.on(*next(trial.examples()))(np.arange(2))
    gone = weakref.ref(plan.calibration)
    del plan, trial
    gc.collect()
    assert gone() is None
