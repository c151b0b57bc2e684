"""Channels that go together, scored and counted: against figures by hand."""

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import zoo
from tfprune.planning import Recipe

L = keras.layers


def chain(widths=(8, 16)):
    """Dense layers without biases: parameters are products of neighbours."""
    layers = [L.Dense(w, use_bias=False, name=f"d{i}") for i, w in enumerate(widths)]
    head = L.Dense(3, use_bias=False, name="head")
    return keras.Sequential([keras.Input((4,)), *layers, head])


def residual():
    """Two convolutions that are added, and one that reads the sum."""
    x = keras.Input((8, 8, 3))
    a = L.Conv2D(6, 3, padding="same", name="a")(x)
    b = L.Conv2D(6, 3, padding="same", name="b")(a)
    y = L.GlobalAveragePooling2D()(L.Add()([a, b]))
    return keras.Model(x, L.Dense(4, name="head")(y))


def widths(model):
    names = ("units", "filters")
    return [getattr(x, n) for x in model.layers for n in names if hasattr(x, n)]


def small(model, target, **words):
    return tfprune.shrink(tfprune.prune(model, target, granularity="channel", **words))


def test_a_channel_is_scored_by_all_that_carries_it():
    model = chain((2,))
    first, head = model.layers
    first.set_weights([np.array([[1.0, 0], [1, 0], [0, 0], [0, 2]])])  # columns: L1 2 and 2
    head.set_weights([np.array([[0, 1, 0], [3, 0, 0]])])  # rows: L1 1 and 3
    plan = Recipe.of("params:0.5", granularity="channel('sum', 'none')", criterion="l1").bind(model)
    np.testing.assert_array_equal(plan.scores().layers[0].scores, [3, 5])
    assert plan.scores().layers[0].sizes.tolist() == [4 + 3, 4 + 3]
    plan = Recipe.of("params:0.5", granularity="channel('first', 'none')", criterion="l1").bind(
        model
    )
    np.testing.assert_array_equal(plan.scores().layers[0].scores, [2, 2])


@pytest.fixture(scope="module")
def resnet20():
    return zoo.build("resnet20", input_shape=(16, 16, 3), classes=10, seed=0)


@pytest.mark.parametrize("target", ["params:0.5", "macs:0.5", "compression:2", "params:200"])
@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_the_smaller_model_has_what_the_target_says(resnet20, target, allocation):
    model = resnet20
    if target == "params:200":
        target = "params:200k"
    before = tfprune.measure(model)
    after = tfprune.measure(small(model, target, allocation=allocation))
    key = "macs" if "macs" in target else "params"
    goal = 200_000 if "k" in target else before[key] / 2
    # One channel of the widest group: 64 wide, made by 4 kernels and read by 3.
    one = {"params": 7 * 9 * 64 + 10, "macs": 16 * 16 * 7 * 9 * 16}[key]
    assert abs(after[key] - goal) <= one / 2


def test_the_cost_is_that_of_the_model_that_is_left():
    """Both neighbours of a weight shrink: half the parameters is not half the channels."""
    model = chain((40, 40))
    found = widths(small(model, "params:0.25", allocation="uniform"))
    assert 4 * found[0] + found[0] * found[1] + found[1] * 3 == pytest.approx(
        0.25 * (160 + 1600 + 120), abs=24
    )
    assert found[0] == pytest.approx(found[1], abs=1)


def test_attention_heads_cost_what_they_multiply():
    x = keras.Input((12, 8))
    y = L.MultiHeadAttention(8, 4)(x, x)
    model = keras.Model(x, L.Dense(3)(L.GlobalAveragePooling1D()(y)))
    before = tfprune.measure(model)["macs"]
    after = tfprune.measure(small(model, "macs:0.5"))["macs"]
    assert abs(after / before - 0.5) <= 1 / 16


@pytest.mark.parametrize("multiple", [4, 8])
def test_channels_are_kept_in_multiples(resnet20, multiple):
    model = resnet20
    found = small(model, "macs:0.5", round_to=multiple)
    assert {w % multiple for w in widths(found)[:-1]} == {0}
    share = tfprune.measure(found)["macs"] / tfprune.measure(model)["macs"]
    assert share == pytest.approx(0.5, abs=0.06)


def test_each_group_keeps_what_it_must():
    model = chain((10, 20))
    first, second, _ = widths(small(model, "params:0.3", min_keep=6, allocation="uniform"))
    assert min(first, second) >= 6
    first, second, _ = widths(small(model, "params:0.7", max_sparsity=0.25))
    assert first >= 8
    assert second >= 15
    with pytest.raises(ValueError, match=r"can't be met.*nearest that can is 0\.\d+.*min_keep=9"):
        tfprune.prune(model, "params:0.1", granularity="channel", min_keep=9)


def test_a_protected_layer_keeps_what_it_makes_and_loses_what_it_reads():
    found = small(chain((10, 20)), "params:0.5", protect=["d1"])
    assert found.get_layer("d1").units == 20
    assert found.get_layer("d0").units < 10
    with pytest.raises(ValueError, match="unknown layer to protect 'conv9'"):
        tfprune.prune(chain(), "params:0.5", granularity="channel", protect=["conv9"])


def test_what_is_frozen_is_said_with_its_reason():
    plan = Recipe.of("params:0.5", granularity="channel").bind(chain())
    assert [(s.name, s.reason) for s in plan.skipped] == [("head", "they are the model's output")]
    only = keras.Sequential([keras.Input((4,)), L.Dense(3, name="only")])
    with pytest.raises(ValueError, match=r"nothing to prune.*only: they are the model's output"):
        tfprune.prune(only, "params:0.5", granularity="channel")


def test_bn_scale_ranks_channels_by_the_norm_that_follows():
    model = models.cnn()
    gamma = np.array([5, 1, 4, 2, 8, 7, 3, 6.0])
    model.get_layer("norm").gamma.assign(gamma)
    plan = Recipe.of("params:0.8", granularity="channel", criterion="bn_scale").bind(model)
    np.testing.assert_allclose(plan.scores().layers[0].scores, gamma / gamma.mean())


def test_random_scores_do_not_average_out_over_members(resnet20):
    plan = Recipe.of("params:0.8", granularity="channel('mean', 'none')", criterion="random").bind(
        resnet20
    )
    widest = max(range(len(plan.groups)), key=lambda i: len(plan.groups[i][1]))
    assert plan.scores().layers[widest].scores.std() > 0.2  # of uniform numbers: 0.29


def test_pruning_a_residual_pair_one_by_one_breaks_it():
    """What a tool does that does not know of coupling: the filters that each layer ranks lowest."""
    model = residual()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    x = rng.normal(size=(4, 8, 8, 3)).astype("float32")
    naive = tfprune.prune(model, "sparsity:0.5", granularity="filter", allocation="uniform")
    kept = [set(np.flatnonzero(naive.get_layer(n).kernel.numpy().any((0, 1, 2)))) for n in "ab"]
    assert kept[0] != kept[1]  # so that the sum can't be cut
    assert widths(tfprune.shrink(naive)) == widths(model)

    def cut(layer, keep):
        kernel, bias = (w.numpy() for w in layer.weights)
        return kernel[..., sorted(keep)], bias[sorted(keep)]

    a, b = (cut(model.get_layer(n), keep) for n, keep in zip("ab", kept, strict=True))
    with pytest.raises(ValueError, match="shape"):  # layer by layer, b's inputs do not fit
        keras.ops.conv(keras.ops.conv(x, a[0], padding="same") + a[1], b[0], padding="same")

    pruned = tfprune.prune(model, "params:0.5", granularity="channel")
    ours = tfprune.shrink(pruned)
    assert ours.get_layer("a").filters == ours.get_layer("b").filters < 6
    np.testing.assert_allclose(pruned(x), ours(x), rtol=1e-4, atol=1e-5)


def test_words_that_only_channels_know():
    with pytest.raises(ValueError, match="round_to is a number of channels"):
        tfprune.prune(chain(), "params:0.5", round_to=8)
    for target in ("bytes:0.5", "latency:4ms"):
        with pytest.raises(ValueError, match="needs granularity='channel'"):
            tfprune.prune(chain(), target)
    with pytest.raises(ValueError, match="max_sparsity"):
        tfprune.prune(chain(), "params:0.5", max_sparsity=0.0)
    with pytest.raises(ValueError, match="subclassed"):
        tfprune.prune(models.subclassed(), "params:0.5", granularity="channel", in_place=True)
