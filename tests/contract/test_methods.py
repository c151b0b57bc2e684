"""Every criterion x granularity x allocation through one contract. New files join by themselves."""

import itertools

import keras
import numpy as np
import pytest

import tfprune
import tfprune.granularity
import tfprune.planning
from tests import models
from tfprune import registry
from tfprune.graph import kernels as k

CRITERIA = sorted(registry.names("tfprune.criteria"))
# A granularity with options of its own is tried with more than its defaults.
GRANULARITIES = sorted({*registry.names("tfprune.granularity"), "block(4, 1)", "n_m(1, 4)"})
ALLOCATIONS = sorted(registry.names("tfprune.allocation"))
MATRIX = list(itertools.product(CRITERIA, GRANULARITIES, ALLOCATIONS))


@pytest.fixture(scope="module")
def trained():
    model = models.cnn()
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    x, y = models.images()
    model.fit(x, y, epochs=1, batch_size=16, verbose=0)
    return model


def zeros(model):
    return [x.read() == 0 for x in k.find(model)[0]]


@pytest.mark.parametrize(("criterion", "granularity", "allocation"), MATRIX)
def test_contract(trained, criterion, granularity, allocation, tmp_path):
    words = {"criterion": criterion, "granularity": granularity, "allocation": allocation}
    before = trained.get_weights()
    pruned = tfprune.prune(trained, "sparsity:0.15", **words)

    # The target, to one unit: of the weights that could be pruned.
    plan = tfprune.planning.Recipe.of(
        "sparsity:0.15", **words, protect=(), min_keep=1, seed=0
    ).bind(trained)
    chosen = {kernel.name for kernel in plan.kernels}
    masks = plan.masks()
    size = sum(masks[name].size for name in chosen)
    unit = largest_unit(plan)
    missed = abs(sum(int((~masks[name]).sum()) for name in chosen) - 0.15 * size)
    # "uniform" rounds in each layer instead of once in all, as TFMOT does.
    coupled = plan.recipe.coupled
    rounded = len(chosen) if allocation == "uniform" and not coupled else 1
    assert missed <= rounded * unit / 2 + 1e-6

    # Deterministic, finite, and the model given is as it was.
    again = tfprune.prune(trained, "sparsity:0.15", **words)
    for a, b in zip(pruned.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isfinite(a).all()
    for a, b in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    # Zeros are whole units, survive a fit, a save and a load; the rest goes on training.
    found = zeros(pruned)
    for mask, kernel in zip(found, k.find(pruned)[0], strict=True):
        if kernel.name in chosen and not coupled:
            units = plan.recipe.granularity("unroll", 1.0 - mask)
            assert set(np.unique(units.sum(1))) <= {0, *units_full(plan, kernel)}
    x, y = models.images(32)
    if coupled:
        small = tfprune.shrink(pruned)
        assert sum(w.size for w in small.get_weights()) < sum(w.size for w in before)
        np.testing.assert_allclose(pruned(x), small(x), rtol=1e-5, atol=1e-7)
    pruned.fit(x, y, batch_size=16, epochs=1, verbose=0)
    weights = [kernel.read() for kernel in k.find(pruned)[0]]
    assert all(not w[z].any() for w, z in zip(weights, found, strict=True))
    pruned.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(weights, k.find(loaded)[0], strict=True):
        np.testing.assert_array_equal(a, b.read())


def largest_unit(plan):
    if plan.recipe.coupled:
        return max(plan.layer(i).sizes.max() for i in range(len(plan.groups)))
    shapes = [x.shape for x in plan.kernels]
    return max(tfprune.granularity.sizes(plan.recipe.granularity, s).max() for s in shapes)


def units_full(plan, kernel):
    return tfprune.granularity.sizes(plan.recipe.granularity, kernel.shape)
