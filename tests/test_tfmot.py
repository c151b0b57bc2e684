"""Masks bit-equal to TFMOT's `prune_low_magnitude` on the same weights."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune import schedules


def theirs(weights, sparsity, **settings):
    """Returns TFMOT's masks for {name: kernel}, made by one of its training steps."""
    tfmot = schedules.tfmot_schedules()
    import tf_keras

    x = {n: tf_keras.Input((*_size(w), w.shape[-2]), name=n) for n, w in weights.items()}
    made, layers = [], {}
    for name, weight in weights.items():
        layer = (
            tf_keras.layers.Dense(weight.shape[-1], use_bias=False)
            if weight.ndim == 2
            else tf_keras.layers.Conv2D(weight.shape[-1], weight.shape[:2], use_bias=False)
        )
        schedule = tfmot.ConstantSparsity(sparsity, 0, frequency=1)
        layers[name] = tfmot.prune_low_magnitude(layer, pruning_schedule=schedule, **settings)
        made.append(tf_keras.layers.Flatten()(layers[name](x[name])))
    model = tf_keras.Model(x, made)
    for name, weight in weights.items():
        layers[name].layer.kernel.assign(weight)
    model.compile(tf_keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    inputs = {n: np.zeros((1, *t.shape[1:]), "float32") for n, t in x.items()}
    targets = [np.zeros((1, *y.shape[1:]), "float32") for y in made]
    model.fit(inputs, targets, verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    return {name: layer.layer.kernel.numpy() != 0 for name, layer in layers.items()}


def ours(weights, sparsity, granularity):
    inputs, outputs = [], []
    for name, weight in weights.items():
        x = keras.Input((*_size(weight), weight.shape[-2]))
        layer = (
            keras.layers.Dense(weight.shape[-1], use_bias=False, name=name)
            if weight.ndim == 2
            else keras.layers.Conv2D(weight.shape[-1], weight.shape[:2], use_bias=False, name=name)
        )
        inputs.append(x)
        outputs.append(layer(x))
    model = keras.Model(inputs, outputs)
    for name, weight in weights.items():
        model.get_layer(name).kernel.assign(weight)
    pruned = tfprune.prune(
        model, f"sparsity:{sparsity}", granularity=granularity, allocation="uniform"
    )
    return {name: pruned.get_layer(name).kernel.numpy() != 0 for name in weights}


def _size(weight):
    return (8, 8) if weight.ndim == 4 else ()


def equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def kernels(*shapes):
    rng = np.random.default_rng(0)
    return {f"k{i}": rng.normal(size=s).astype("float32") for i, s in enumerate(shapes)}


RESNET = [(3, 3, 3, 16), (3, 3, 16, 16), (3, 3, 16, 32), (3, 3, 32, 64), (1, 1, 16, 24), (64, 10)]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77, 0.8, 0.9, 0.99])
def test_weights(sparsity):
    weights = kernels(*RESNET)
    equal(ours(weights, sparsity, "weight"), theirs(weights, sparsity))


@pytest.mark.parametrize("block", [(4, 1), (1, 4), (2, 3), (8, 8)])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.85])
def test_blocks(block, sparsity):
    weights = kernels((48, 24), (96, 96))
    equal(ours(weights, sparsity, f"block{block}"), theirs(weights, sparsity, block_size=block))


@pytest.mark.parametrize("n_m", [(2, 4), (1, 4), (3, 4), (4, 8)])
def test_n_of_m(n_m):
    n, m = n_m
    weights = kernels((3, 3, 16, 12), (1, 1, 8, 8), (64, 10))
    # TFMOT says how many of each m are zero, the literature how many are not
    expected = theirs(weights, 0.5, sparsity_m_by_n=(m - n, m))
    equal(ours(weights, 1 - n / m, f"n_m{n_m}"), expected)


def test_a_real_network(shared):
    """All kernels of the trained ResNet-8, whose layer sizes don't divide evenly."""
    model = tfprune.load_model(shared / "models/mlperf_tiny/pretrainedResnet.h5")
    weights = {
        f"k{i}": w.numpy() for i, w in enumerate(w for w in model.weights if w.name == "kernel")
    }
    assert len(weights) == 10
    equal(ours(weights, 0.8, "weight"), theirs(weights, 0.8))
