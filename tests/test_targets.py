import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import targets
from tfprune.graph import kernels as k
from tfprune.graph import macs


def nonzero(model):
    kernels, _ = k.find(model)
    return k.parameters(model) - sum(int(np.sum(x.read() == 0)) for x in kernels)


@pytest.mark.parametrize("allocation", ["global", "uniform", "uniform_plus", "erk", "lamp"])
def test_targets_on_parameters_are_met_to_one_weight(allocation):
    model = models.cnn()
    total = k.parameters(model)
    for target, expected in [
        ("compression:1.7", total / 1.7),
        ("params:0.6", total * 0.6),
        ("params:500", 500),
        ("params:0.5k", 500),
    ]:
        pruned = tfprune.prune(model, target, allocation=allocation)
        assert abs(nonzero(pruned) - expected) <= 0.5


@pytest.mark.parametrize("allocation", ["global", "uniform", "erk", "lamp"])
def test_macs_are_met_to_one_weight_of_the_dearest_layer(allocation):
    model = models.cnn()
    pruned = tfprune.prune(model, "macs:0.5", allocation=allocation)
    kernels, _ = k.find(pruned)
    uses = macs.positions(pruned, kernels)
    left = sum(np.count_nonzero(x.read()) * uses[x.name] for x in kernels)
    assert abs(left - 0.5 * macs.total(model)) <= max(uses.values()) / 2


def test_what_is_protected_counts_in_the_whole_model():
    model = models.cnn()
    pruned = tfprune.prune(model, "compression:2", protect=["head"])
    assert abs(nonzero(pruned) - k.parameters(model) / 2) <= 0.5


def test_zeros_that_are_there_already_count():
    model = models.cnn()
    first = tfprune.prune(model, "sparsity:0.5")
    again = tfprune.prune(first, "sparsity:0.5")
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("target", ["compression:1000", "params:0.01", "macs:1", "params:5"])
def test_out_of_reach_says_the_nearest(target):
    with pytest.raises(ValueError, match="nearest that can is"):
        tfprune.prune(models.cnn(), target if target != "macs:1" else "macs:0.0001")


def test_the_nearest_can_be_met():
    model = models.cnn()
    with pytest.raises(ValueError) as error:
        tfprune.prune(model, "sparsity:0.9999")
    nearest = str(error.value).split("nearest that can is ")[1].split(",")[0]
    tfprune.prune(model, f"sparsity:{nearest}")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0.8", "reads like"),
        ("sparsty:0.5", "Did you mean sparsity"),
        ("sparsity:1", "up to, but not, 1"),
        ("sparsity:-0.1", "up to, but not, 1"),
        ("sparsity:nan", "up to, but not, 1"),
        ("sparsity:80%", "not a number"),
        ("compression:0.5", "1 or more"),
        ("params:0", "a share"),
        (0.8, "reads like"),
        ("bytes:0", "a share of the bytes"),
        ("bytes:-1k", "a share of the bytes"),
        ("bytes:4ms", "not a number"),
        ("latency:4", "or a time such as 4ms"),
        ("latency:0", "or a time such as 4ms"),
        ("latency:0ms", "or a time such as 4ms"),
        ("latency:infms", "or a time such as 4ms"),
        ("latency:ms", "not a number"),
        ("latency:4s", "not a number"),
    ],
)
def test_wrong_targets(text, match):
    with pytest.raises(ValueError, match=match):
        targets.parse(text)


@pytest.mark.parametrize(
    ("text", "expected", "is_share"),
    [
        ("bytes:200k", ("bytes", 200_000, ""), False),
        ("bytes:1.5M", ("bytes", 1_500_000, ""), False),
        ("bytes:0.5", ("bytes", 0.5, ""), True),
        ("latency:4ms", ("latency", 4, "ms"), False),
        ("latency:0.25ms", ("latency", 0.25, "ms"), False),
        ("latency:0.5", ("latency", 0.5, ""), True),
        ("latency:1", ("latency", 1, ""), True),
    ],
)
def test_measured_targets(text, expected, is_share):
    target = targets.parse(text)
    assert target == targets.Target(*expected)
    assert target.measured
    assert target.is_share == is_share
    assert targets.parse(str(target)) == target
    assert not targets.parse("macs:0.5").measured
