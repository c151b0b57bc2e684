"""Target "redundant": what the criterion's own threshold says, no more and no less."""

import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import masks, targets


def below(units, *, threshold=0.5):
    """A criterion with a threshold: position in the layer, from 0 to 1."""
    return np.linspace(0, 1, len(units)) - threshold


def kept(model):
    """Returns of each masked kernel, but the depthwise, how many filters are left."""
    found = masks.of(model)
    return {
        name.split("/")[-2]: int(mask.reshape(-1, mask.shape[-1]).any(0).sum())
        for name, mask in found.items()
        if name.endswith("kernel") and "depthwise" not in name
    }


def test_filters_below_the_threshold_go():
    pruned = tfprune.prune(models.cnn(), "redundant", criterion=below, granularity="filter")
    assert kept(pruned) == {"conv": 4, "pointwise": 8, "head": 5}


def test_channels_below_the_threshold_go():
    pruned = tfprune.prune(models.cnn(), "redundant", criterion=below, granularity="channel")
    small = tfprune.shrink(pruned)
    assert [small.get_layer(n).filters for n in ("conv", "pointwise")] == [4, 8]


def test_locked_units_stay():
    words = {"criterion": below, "granularity": "filter", "min_keep": 6}
    pruned = tfprune.prune(models.cnn(), targets.parse("redundant"), **words)
    assert kept(pruned) == {"conv": 6, "pointwise": 8, "head": 6}


def test_an_allocation_shares_what_is_redundant_otherwise():
    def some(units):
        return np.arange(len(units)) - (6 if len(units) == 16 else 0)

    words = {"criterion": some, "granularity": "channel"}
    by_layer = tfprune.shrink(tfprune.prune(models.cnn(), "redundant", **words))
    assert [by_layer.get_layer(n).filters for n in ("conv", "pointwise")] == [8, 10]
    shared = tfprune.prune(models.cnn(), "redundant", allocation="uniform", **words)
    assert tfprune.shrink(shared).get_layer("conv").filters < 8


def test_nothing_redundant_is_an_error_that_says_what_helps():
    with pytest.raises(ValueError, match=r"'l2' finds nothing redundant.*threshold"):
        tfprune.prune(models.tiny(), "redundant", criterion="l2", granularity="filter")


def test_no_training_leads_to_it():
    for callback in (tfprune.Pruner, tfprune.SoftPruner):
        with pytest.raises(ValueError, match=r"target redundant .* can't be done at each step"):
            callback("redundant", granularity="filter")


def test_its_text():
    target = targets.parse("redundant")
    assert str(target) == "redundant"
    assert target.found
    assert not target.measured
    assert targets.split(target, 3, {}) == [target] * 3
    with pytest.raises(ValueError, match="Did you mean redundant"):
        targets.parse("redundent:1")
