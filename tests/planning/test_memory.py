"""What scoring and choosing take beyond the model, so that 100 million weights fit in 8 GB."""

import pathlib
import subprocess
import sys
import tracemalloc

import keras
import numpy as np
import pytest

from tfprune.planning import Recipe

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools/bench_memory.py"
WIDTH = 1000  # of four kernels

# Bytes a weight of NumPy's arrays: scores in float32 or float64, an index of 8, what is sorted.
MOST = {
    ("magnitude", "weight", "global"): 36,
    ("magnitude", "weight", "uniform"): 26,
    ("magnitude", "weight", "erk"): 40,
    ("magnitude", "weight", "lamp"): 42,
    ("magnitude", "block(4, 1)", "global"): 14,
    ("snip", "weight", "global"): 54,
    ("taylor", "weight", "global"): 54,
}


@pytest.fixture(scope="module")
def model():
    layers = [keras.layers.Dense(WIDTH, use_bias=False, name=f"dense{i}") for i in range(4)]
    result = keras.Sequential([keras.Input((WIDTH,)), *layers])
    result.compile("sgd", "mse")
    return result


@pytest.mark.parametrize("words", MOST, ids=" ".join)
def test_bytes_a_weight(model, words):
    criterion, granularity, allocation = words
    recipe = Recipe.of(
        "sparsity:0.9", criterion=criterion, granularity=granularity, allocation=allocation
    )
    x = np.random.default_rng(0).random((4, WIDTH), np.float32)
    plan = recipe.bind(model, data=(x, x))
    plan.check()
    tracemalloc.start()
    try:
        plan.apply()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / (4 * WIDTH**2) <= MOST[words]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["global", "erk", "taylor"])
def test_a_hundred_million_weights_fit_in_8_gb(case):
    done = subprocess.run(
        [sys.executable, TOOL, f"--cases={case}"], check=True, stdout=subprocess.PIPE, text=True
    )
    name, _, peak, *_ = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert name == case
    assert float(peak) < 8
