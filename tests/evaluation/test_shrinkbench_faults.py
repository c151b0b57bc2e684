"""What is wrong in ShrinkBench (github.com/JJGO/shrinkbench at b244974), and is not here.

Each test names the place, and computes what ShrinkBench says beside what is so.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tests.models import cnn
from tfprune import data
from tfprune.graph import kernels as k
from tfprune.graph import macs
from tfprune.measurement import accuracy

L = keras.layers


def batch_means(correct, batch_size):
    """Returns the mean of correct / batch size over batches, as `run_epoch` has it."""
    starts = range(0, len(correct), batch_size)
    return np.mean([correct[i : i + batch_size].sum() / batch_size for i in starts])


@pytest.mark.parametrize(("count", "theirs"), [(10_000, 0.98892), (9_984, 1.0), (130, 0.50781)])
def test_accuracy_with_a_short_last_batch(count, theirs):
    """experiment/train.py, run_epoch: each batch counts as a full one, and all count alike."""
    labels = np.arange(count) % 10
    perfect = keras.Sequential([keras.Input((10,)), L.Activation("linear")])
    examples = tf.data.Dataset.from_tensor_slices((np.eye(10, dtype="float32")[labels], labels))
    assert accuracy.evaluate(perfect, examples.batch(128))["top1"] == 1.0
    assert batch_means(np.ones(count), 128) == pytest.approx(theirs, abs=5e-6)


def test_a_wrong_last_batch_weighs_what_its_examples_weigh():
    """Of 130 examples the last two are wrong: 128 / 130, where ShrinkBench says a half."""
    labels = np.arange(130) % 10
    said = np.where(np.arange(130) < 128, labels, (labels + 1) % 10)
    model = keras.Sequential([keras.Input((10,)), L.Activation("linear")])
    examples = tf.data.Dataset.from_tensor_slices((np.eye(10, dtype="float32")[said], labels))
    assert accuracy.evaluate(model, examples.batch(128))["top1"] == 128 / 130
    assert batch_means(said == labels, 128) == 0.5


def masks(seed, **words):
    model = cnn()
    model.set_weights([np.ones(w.shape, "float32") for w in model.weights])
    pruned = tfprune.prune(model, "compression:2", seed=seed, protect=["head"], **words)
    return np.concatenate([(x.read() != 0).ravel() for x in k.find(pruned)[0]])


def test_random_masks_are_seeded():
    """experiment/prune.py prunes as it is constructed; `freeze` sets the seeds when it runs."""
    found = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002 - what ShrinkBench draws from
        keras.utils.set_random_seed(state)
        found.append(masks(0, criterion="random"))
    np.testing.assert_array_equal(*found)
    other = masks(1, criterion="random")
    assert np.mean(other != found[0]) > 0.2


def test_a_random_mask_keeps_exactly_what_it_should():
    """strategies/random.py draws for each weight by itself: as many stay as chance has it."""
    model = cnn()
    total = k.parameters(model)
    for seed in range(3):
        removed = (~masks(seed, criterion="random")).sum()
        assert abs(removed - (total - total / 2)) <= 0.5


def test_examples_that_scores_are_computed_from_are_seeded():
    """experiment/prune.py, apply_pruning: gradients of the first batch of an unseeded shuffle."""
    splits = data.load("digits", batch_size=32)

    def drawn(seed):
        return np.concatenate([y for _, y in splits.calibration(100, seed)])

    first = drawn(0)
    tf.random.set_seed(5)
    np.testing.assert_array_equal(first, drawn(0))
    assert (first != drawn(1)).any()


def products(layer, shape):
    """Returns how many products a convolution is made of: what ones and ones amount to."""
    x = np.ones((1, *shape), "float32")
    if layer.padding == "same":  # with ones instead of zeros around
        kernel, strides = np.array(layer.kernel_size), np.array(layer.strides)
        reach = (kernel - 1) * np.array(layer.dilation_rate) + 1
        out = -(-np.array(shape[:2]) // strides)
        missing = np.maximum((out - 1) * strides + reach - np.array(shape[:2]), 0)
        x = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)], constant_values=1)
    config = layer.get_config() | {"padding": "valid", "name": "valid", "use_bias": False}
    valid = type(layer).from_config(config)
    valid.build(x.shape)
    valid.set_weights([np.ones(w.shape) for w in valid.weights])
    return int(np.sum(valid(x)))


def shrinkbench(shape, filters, *, kernel=3, strides=1):
    """Returns metrics/flops.py's count: it hands on `padding_mode`, "zeros", for the padding."""
    rows, columns = (-(-size // strides) for size in shape[:2])
    return shape[2] * filters * kernel**2 * rows * columns


SHAPE = (9, 11, 8)
CASES = {
    # rows x columns x 3 x 3 x inputs a group x outputs
    "same padding": (L.Conv2D(16, 3, padding="same"), 9 * 11 * 9 * 8 * 16, {}),
    "same, strided": (L.Conv2D(16, 3, 2, padding="same"), 5 * 6 * 9 * 8 * 16, {"strides": 2}),
    "valid padding": (L.Conv2D(16, 3), 7 * 9 * 9 * 8 * 16, {}),
    "valid, strided": (L.Conv2D(16, 3, 2), 4 * 5 * 9 * 8 * 16, {"strides": 2}),
    "groups": (L.Conv2D(16, 3, padding="same", groups=4), 9 * 11 * 9 * 2 * 16, {}),
    "depthwise": (L.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 9 * 11 * 9 * 16, {}),
    "dilation": (L.Conv2D(16, 3, dilation_rate=2), 5 * 7 * 9 * 8 * 16, {}),
}
RIGHT = ("same padding", "same, strided")


@pytest.mark.parametrize("case", CASES)
def test_multiply_accumulates_of_a_convolution(case):
    """metrics/flops.py: padding counts as "same", groups as none, dilation is refused."""
    layer, by_hand, strides = CASES[case]
    model = keras.Sequential([keras.Input(SHAPE), type(layer).from_config(layer.get_config())])
    assert macs.total(model) == by_hand == products(layer, SHAPE)
    assert (shrinkbench(SHAPE, 16, **strides) == by_hand) == (case in RIGHT)


def test_speedup_weighs_layers_by_their_products():
    """A grouped layer's weights are used for fewer products than ShrinkBench counts."""
    x = keras.Input(SHAPE)
    y = L.Conv2D(16, 3, groups=4, use_bias=False, name="grouped")(x)
    model = keras.Model(x, L.Conv2D(4, 1, use_bias=False, name="wide")(y))
    weight = model.get_layer("wide").kernel
    weight.assign(np.where(np.arange(64).reshape(weight.shape) % 2, weight, 0))
    grouped, wide = 7 * 9 * 9 * 2 * 16, 7 * 9 * 16 * 4
    found = tfprune.measure(model)
    assert (found["macs"], found["nonzero_macs"]) == (grouped + wide, grouped + wide // 2)
