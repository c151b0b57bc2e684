"""Coded sizes, compared with SciPy's entropy and with Huffman's construction step by step."""

import heapq
import math

import keras
import numpy as np
import pytest
from scipy import stats

import tfprune
from tests import models
from tfprune.graph import kernels as k
from tfprune.measurement import entropy
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

RNG = np.random.default_rng(0)


def ideal(array, *, book=True):
    """Returns the entropy's bytes with SciPy."""
    values, counts = np.unique(array, return_counts=True)
    if book and 1 in counts:
        counts = [*counts[counts > 1], (counts == 1).sum()]
    bits = array.size * stats.entropy(counts, base=2)
    return min(array.nbytes, book * len(values) * array.itemsize + math.ceil(bits / 8))


def huffman(counts):
    """Returns the bits of Huffman's code, two nodes at a time."""
    heap = [int(c) for c in counts]
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        node = heapq.heappop(heap) + heapq.heappop(heap)
        bits += node
        heapq.heappush(heap, node)
    return bits


@pytest.mark.parametrize(
    "array",
    [
        RNG.choice([0, 0, 0, 0, 0.25, -1.5], 5000).astype("float32"),
        np.where(RNG.random(200_000) < 0.8, 0, RNG.normal(size=200_000)).astype("float32"),
        np.tile(RNG.normal(size=300), 400).astype("float16"),
        np.full((3, 7), -2.5),
        np.float32([0.0, -0.0, 0.0, 1.0] * 20),  # one zero, not two
    ],
)
def test_a_codebook_and_the_entropy_of_what_points_into_it(array):
    assert entropy.coded(array).entropy_bytes == ideal(array)


def test_bytes_need_no_codebook():
    array = np.clip(RNG.normal(scale=20, size=3000), -127, 127).astype("int8")
    assert entropy.coded(array).entropy_bytes == ideal(array, book=False)


@pytest.mark.parametrize("count", [1, 1000, 100_000])
def test_what_a_code_makes_no_smaller_stays_as_it_is(count):
    array = RNG.normal(size=count).astype("float32")
    assert entropy.coded(array) == (4 * count, 4 * count)


def test_huffman_is_huffman():
    for _ in range(300):
        counts = RNG.integers(1, RNG.integers(2, 30), RNG.integers(1, 40))
        assert entropy.huffman_bits(counts) == huffman(counts)


def test_huffman_lies_within_a_bit_of_the_entropy():
    array = RNG.choice(16, 10_000, p=RNG.dirichlet(np.ones(16))).astype("float32")
    coded = entropy.coded(array)
    assert coded.entropy_bytes <= coded.huffman_bytes < coded.entropy_bytes + 10_000 / 8


def test_a_models_facts():
    model = models.cnn()
    dense = tfprune.measure(model)
    assert dense["entropy_bytes"] == dense["huffman_bytes"] == 4 * dense["params"]
    facts = tfprune.measure(tfprune.cluster_weights(model, 4))
    kernels, _ = k.find(model)
    clustered = tfprune.cluster_weights(model, 4)
    expected = [ideal(x.read()) for x in k.find(clustered)[0]]
    rest = 4 * (dense["params"] - sum(x.size for x in kernels))
    assert facts["entropy_bytes"] == rest + sum(expected) < 0.4 * dense["entropy_bytes"]
    assert facts["entropy_bytes"] <= facts["huffman_bytes"] < 1.1 * facts["entropy_bytes"]


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_a_file_counts_its_constants_as_they_are_stored(tmp_path, variant):
    kernel = RNG.choice([-1.0, 0.0, 0.0, 0.0, 1.0], (40, 30)).astype("float32")
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30, use_bias=False)])
    model.layers[0].kernel.assign(kernel)
    x = RNG.normal(size=(20, 40)).astype("float32")
    (tmp_path / "m.tflite").write_bytes(
        convert.convert(convert.trace(model, x), VARIANTS[variant], [x])
    )
    stored = kernel.astype("int8" if variant == "int8" else "float32")  # -127, 0 and 127
    expected = ideal(stored, book=variant == "float32")
    # a bias of zeros, int32 or float32, takes a value of four bytes
    assert 0 <= entropy.of_file(tmp_path / "m.tflite").entropy_bytes - expected <= 4
