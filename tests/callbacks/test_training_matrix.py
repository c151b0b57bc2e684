"""Every method of `Pruner` under what changes how weights are updated."""

import itertools

import keras
import numpy as np
import pytest

import tfprune
from tests import models
from tfprune import masks, registry
from tfprune.graph import kernels as k

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
OPTIMIZERS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "ema": {"use_ema": True, "ema_overwrite_frequency": 3},
}
METHODS = [*sorted(registry.names("tfprune.sparse_training")), "movement(kind='soft')"]
# XLA takes seconds a training, so that the product of all would take minutes: every method meets
# every policy, every optimizer and both compilers, and over all methods each pair of these occurs.
CASES = [
    (method, policy, turn == number // 3 % 3, list(OPTIMIZERS)[(turn + number) % 3])
    for number, method in enumerate(METHODS)
    for turn, policy in enumerate(POLICIES)
]


@pytest.fixture
def policy(request):
    """Sets the policy that layers are made with."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def trained(method, jit, settings):
    model = models.tiny()
    sgd = keras.optimizers.SGD(0.01, momentum=0.9, **settings)
    model.compile(sgd, "sparse_categorical_crossentropy", jit_compile=jit)
    x, y = models.images(32)
    pruner = tfprune.Pruner("sparsity:0.75", method=method)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[pruner])
    return model


@pytest.mark.parametrize(("method", "policy", "jit", "kind"), CASES, indirect=["policy"])
def test_the_target_is_met_and_zeros_stay(method, policy, jit, kind):
    """Pairwise: see `CASES`."""
    model = trained(method, jit, OPTIMIZERS[kind])
    kernels, _ = k.find(model)
    held = masks.of(model)
    assert all(np.isfinite(w.numpy()).all() for w in model.weights)
    assert {kernel.variable.dtype for kernel in kernels} == {"float32"}
    pruned = {kernel.name: ~kernel.canonical(held[kernel.name]) for kernel in kernels}
    # Allocations round once in all, or in each kernel.
    goal = 0.75 * sum(kernel.size for kernel in kernels)
    assert abs(sum(gone.sum() for gone in pruned.values()) - goal) <= len(kernels) / 2
    for kernel in kernels:  # a quarter of the training went by after the last update
        assert not kernel.read()[pruned[kernel.name]].any()


def test_the_matrix_covers_all_pairs():
    sides = [set(METHODS), set(POLICIES), {False, True}, set(OPTIMIZERS)]
    for one, other in itertools.combinations(range(4), 2):
        met = {(case[one], case[other]) for case in CASES}
        assert met == set(itertools.product(sides[one], sides[other]))


def test_masks_take_a_byte_a_weight():
    model = trained("gradual", False, {})
    kernels, _ = k.find(model)
    for kernel in kernels:
        mask = kernel.variable.constraint.mask
        assert mask.dtype == "bool"
        assert mask.value.numpy().nbytes == kernel.size
