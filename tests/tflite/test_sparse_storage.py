"""Kernels without their zeros: smaller, and computed as with them; else kept, with the reason."""

import keras
import numpy as np
import pytest

from tests.tflite.files import L, cnn, content, outputs, samples, sparse
from tfprune.tflite import flatbuffer, sparse_storage
from tfprune.tflite.variants import VARIANTS


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return cnn()


def stored(file):
    return sparse_storage.describe(flatbuffer.read(file))


@pytest.mark.parametrize("name", [n for n in VARIANTS if "_sparse" in n and not n.endswith("io")])
def test_sparse_files_are_smaller_and_compute_the_same(model, name):
    x = samples(model)
    dense, file = content(model, x, name, sparse=False), content(model, x, name)
    assert len(file) < len(dense)
    expected = outputs(dense, x)
    np.testing.assert_allclose(outputs(file, x), expected, atol=1e-5 * np.abs(expected).max())
    assert any(kernel.sparse for kernel in stored(file))
    assert not any(kernel.sparse for kernel in stored(dense))


@pytest.mark.parametrize("name", ["float16", "int8_weights", "dynamic_int8", "int8", "int16x8"])
def test_quantisation_keeps_every_zero(name):
    model = sparse([keras.Input((6, 6, 48)), L.Conv2D(64, 3), L.Flatten(), L.Dense(32)])
    file = flatbuffer.read(content(model, samples(model), name))
    for use, layer in zip(
        flatbuffer.kernels(file), (model.layers[0], model.layers[2]), strict=True
    ):
        tensor = file.subgraphs[0].tensors[use.tensor]
        kind = np.float16 if name == "float16" else np.int8
        stored = flatbuffer.constant(file, tensor).view(kind).reshape(tensor.shape)
        kernel = np.moveaxis(np.asarray(layer.kernel), -1, 0)  # LiteRT has outputs first
        assert not stored[kernel == 0].any()
        assert tensor.quantization is None or not np.any(tensor.quantization.zeroPoint)


def test_a_decoded_kernel_is_the_kernel():
    """By TensorFlow's own reader of sparse tensors: DENSIFY alone, on what was stored."""
    model = sparse([keras.Input((4, 4, 48)), L.Conv2D(24, 1, use_bias=False)])
    file = content(model, samples(model), "float32_sparse")
    eye = np.eye(48, dtype="float32")[:, None, None] * np.ones((1, 4, 4, 1), "float32")
    np.testing.assert_allclose(outputs(file, eye)[:, 0, 0], model.layers[0].kernel[0, 0])


def test_bytes_are_those_of_values_segments_and_indices():
    model = sparse([keras.Input((4, 4, 32)), L.Conv2D(64, 3)])
    kernel = np.asarray(model.layers[0].kernel)
    (row,) = stored(content(model, samples(model), "float32_sparse"))
    count = np.count_nonzero(kernel)
    # uint8 indices below 32, and uint16 segments, one a row and one more
    assert row.bytes == count * (4 + 1) + 2 * (64 * 3 * 3 + 1)
    assert row.dense_bytes == kernel.nbytes
    assert row.sparsity == pytest.approx(1 - count / kernel.size)
    assert row.kind == "CONV_2D"


@pytest.mark.parametrize("block", [1, 4, 16])
def test_blocks_are_found(block):
    """A kernel pruned in blocks needs one index a block."""
    model = sparse([keras.Input((4, 4, 64)), L.Conv2D(128, 1)], block=block)
    count = np.count_nonzero(model.layers[0].kernel)
    (row,) = stored(content(model, samples(model), "float32_sparse"))
    width = 1 if count // block < 256 else 2  # of a segment
    assert row.bytes == 4 * count + count // block + width * 129


@pytest.mark.parametrize(
    ("name", "block", "direct"),
    [
        ("float32_sparse", 4, True),
        ("float32_sparse", 1, False),
        ("float16_sparse", 4, False),  # LiteRT's kernel returns NaN
        ("int8_sparse", 16, True),
        ("int8_weights_sparse", 16, False),
    ],
)
def test_a_dense_layer_in_blocks_is_read_as_it_is(name, block, direct):
    model = sparse([keras.Input((128,)), L.Dense(64)], block=block)
    x = samples(model)
    file = content(model, x, name)
    (row,) = stored(file)
    assert row.sparse
    graph = flatbuffer.read(file)
    kinds = [flatbuffer.kind(graph, operator) for operator in graph.subgraphs[0].operators]
    assert ("DENSIFY" in kinds) != direct
    expected = outputs(content(model, x, name, sparse=False), x)
    np.testing.assert_allclose(outputs(file, x), expected, atol=2e-2 * np.abs(expected).max())


def test_what_no_runtime_loads_stays_dense_with_the_reason(model):
    rows = stored(content(model, samples(model), "dynamic_int8_sparse"))
    refused = [row for row in rows if not row.sparse]
    assert {row.kind for row in refused} == {"CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"}
    assert {row.reason for row in refused} == {"dynamic-range operators refuse sparse weights"}
    # what is too small to be quantised is stored in float32, and may be sparse
    assert {row.kind for row in rows if row.sparse} == {"CONV_2D", "DEPTHWISE_CONV_2D"}


def test_an_int8_dense_layer_without_blocks_stays_dense():
    model = sparse([keras.Input((128,)), L.Dense(64), L.Dense(17)])
    odd = sparse([keras.Input((20,)), L.Dense(64)])
    rows = stored(content(model, samples(model), "int8_sparse"))
    rows += stored(content(odd, samples(odd), "int8_sparse"))
    assert not any(row.sparse for row in rows)
    assert "whole blocks of 16" in rows[0].reason
    assert "multiple of 16" in rows[2].reason


@pytest.mark.parametrize(
    ("name", "zeros"), [("float32_sparse", 0.2), ("float16_sparse", 0.33), ("int8_sparse", 0.5)]
)
def test_the_break_even_is_where_the_bytes_say(name, zeros):
    """Indices of one byte: below these shares of zeros a kernel is larger without them."""
    for share, expected in ((zeros - 0.04, False), (zeros + 0.06, True)):
        model = sparse([keras.Input((3, 3, 256)), L.Conv2D(128, 1)], keep=1 - share)
        (row,) = stored(content(model, samples(model, 4), name))
        assert row.sparse == expected
        assert ("zeros: " in row.reason) != expected


def test_a_kernel_of_zeros_and_one_of_none():
    model = sparse([keras.Input((6, 6, 8)), L.Conv2D(40, 3), L.Conv2D(40, 3)], keep=1.0)
    model.layers[1].kernel.assign(np.zeros_like(model.layers[1].kernel))
    x = samples(model)
    file = content(model, x, "float32_sparse")
    assert [row.sparse for row in stored(file)] == [False, True]
    np.testing.assert_allclose(outputs(file, x), np.asarray(model(x)), atol=1e-6)


def test_tied_kernels_are_stored_once():
    image, conv = keras.Input((8, 8, 32)), L.Conv2D(32, 3, padding="same", use_bias=False)
    model = keras.Model(image, conv(conv(image)))
    conv.kernel.assign(sparse([keras.Input((8, 8, 32)), L.Conv2D(32, 3)]).layers[0].kernel)
    x = samples(model)
    file = content(model, x, "float32_sparse")
    assert len(file) < 0.35 * conv.kernel.numpy().nbytes + 3000
    expected = np.asarray(model(x))
    np.testing.assert_allclose(outputs(file, x), expected, atol=1e-5 * np.abs(expected).max())


def test_a_model_without_kernels_is_a_file():
    model = keras.Sequential([keras.Input((4,)), L.Rescaling(2.0)])
    assert stored(content(model, samples(model), "int8_weights_sparse")) == []
