"""Every criterion x granularity x allocation through one contract. New files join by themselves.

What takes long is not done for all three: scores are made once for each criterion and granularity,
and serve all allocations; one allocation for each of them, in turn, prunes a model; and one
criterion for each granularity and allocation, in turn, trains, saves and loads one.
"""

import dataclasses
import functools
import itertools

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import allocation as allocations
from tfprune import criteria, registry
from tfprune import granularity as granularities
from tfprune import masks as attached
from tfprune.graph import kernels as k
from tfprune.planning import Recipe

TARGET = "sparsity:0.15"
CRITERIA = sorted(registry.names("tfprune.criteria"))
# A granularity with options of its own is tried with more than its defaults.
GRANULARITIES = sorted({*registry.names("tfprune.granularity"), "block(4, 1)", "n_m(1, 4)"})
ALLOCATIONS = sorted(registry.names("tfprune.allocation"))


def meant(criterion, granularity):
    """Returns whether the criterion says that it has a meaning for the granularity."""
    try:
        criteria.check(criteria.get(criterion), granularities.get(granularity))
    except ValueError:
        return False
    return True


MATRIX = [
    words for words in itertools.product(CRITERIA, GRANULARITIES, ALLOCATIONS) if meant(*words[:2])
]


def in_turn(*fixed):
    """Returns of the words that agree in these places one, another one for each."""
    groups = {}
    for words in MATRIX:
        groups.setdefault(tuple(words[i] for i in fixed), []).append(words)
    return [group[number % len(group)] for number, group in enumerate(groups.values())]


CRITERION, GRANULARITY, ALLOCATION = range(3)
WORDS = ("criterion", "granularity", "allocation")


@pytest.fixture(scope="module")
def trained():
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = models.images()
    model.fit(x, y, epochs=1, batch_size=16, verbose=0)
    return model


@pytest.fixture(scope="module")
def planned(trained):
    """Returns a plan for the trained model, and its scores, which all allocations share."""

    @functools.cache
    def scored(criterion, granularity):
        recipe = Recipe.of(TARGET, criterion=criterion, granularity=granularity)
        plan = recipe.bind(trained, data=models.images(32))
        return plan, plan.scores()

    def plan(criterion, granularity, allocation):
        bound, scores = scored(criterion, granularity)
        recipe = dataclasses.replace(bound.recipe, allocation=allocations.get(allocation))
        return dataclasses.replace(bound, recipe=recipe), scores

    return plan


@pytest.mark.parametrize(WORDS, MATRIX)
def test_masks(trained, planned, criterion, granularity, allocation):
    """They meet the target to one unit: of the weights that could be pruned."""
    before = trained.get_weights()
    plan, scores = planned(criterion, granularity, allocation)
    masks = plan.masks(scores=scores)
    kernels = [masks[kernel.name] for kernel in plan.kernels]
    unit = max(layer.sizes.max() for layer in scores.layers)
    missed = abs(sum(int((~m).sum()) for m in kernels) - 0.15 * sum(m.size for m in kernels))
    # "uniform" rounds in each layer instead of once in all, as TFMOT does.
    rounded = len(kernels) if allocation == "uniform" and not plan.recipe.coupled else 1
    assert missed <= rounded * unit / 2 + 1e-6
    for name, mask in plan.masks(scores=scores).items():
        np.testing.assert_array_equal(mask, masks[name])
    same(before, trained.get_weights())


def pruned_by(trained, *words):
    words = dict(zip(WORDS, words, strict=True))
    return tfprune.prune(trained, TARGET, **words, data=models.images(32), rounds=1)


@pytest.mark.parametrize(WORDS, in_turn(CRITERION, GRANULARITY))
def test_pruned_model(trained, planned, criterion, granularity, allocation):
    """It is what another plan says, finite, of whole units; and the model given is as it was."""
    before = trained.get_weights()
    pruned = pruned_by(trained, criterion, granularity, allocation)
    plan, scores = planned(criterion, granularity, allocation)
    masks, corrected = plan.corrected(plan.masks(scores=scores), scores)
    held, old, new = attached.of(pruned), k.named(trained), k.named(pruned)
    assert held.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(held[name], mask)
        value = np.float32(corrected.get(name, old[name].numpy()))
        np.testing.assert_array_equal(new[name].numpy(), np.where(mask, value, 0))
    assert all(np.isfinite(w).all() for w in pruned.get_weights())
    same(before, trained.get_weights())
    assert not attached.of(trained)

    if plan.recipe.coupled:
        small = tfprune.shrink(pruned)
        assert sum(w.size for w in small.get_weights()) < sum(w.size for w in before)
        x, _ = models.images(16)
        np.testing.assert_allclose(pruned(x), small(x), rtol=1e-5, atol=1e-7)
    else:
        for kernel in plan.kernels:
            units = plan.recipe.granularity("unroll", 1.0 * kernel.canonical(masks[kernel.name]))
            full = granularities.sizes(plan.recipe.granularity, kernel.shape)
            assert np.isin(units.sum(1), (0, *full)).all()


@pytest.mark.parametrize(WORDS, in_turn(GRANULARITY, ALLOCATION))
def test_zeros_survive_a_fit_a_save_and_a_load(
    trained, criterion, granularity, allocation, tmp_path
):
    pruned = pruned_by(trained, criterion, granularity, allocation)
    before = [kernel.read() for kernel in k.find(pruned)[0]]
    pruned.fit(*models.images(32), batch_size=16, verbose=0)
    weights = [kernel.read() for kernel in k.find(pruned)[0]]
    for old, new in zip(before, weights, strict=True):
        assert not new[old == 0].any()
        assert np.any(new != old)
    pruned.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    same(weights, [kernel.read() for kernel in k.find(loaded)[0]])


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
