"""int8 weights with float32 arithmetic."""

import numpy as np

from tests.tflite.files import L, cnn, content, keras, outputs, samples, sparse
from tfprune.tflite import flatbuffer


def test_values_are_those_of_the_rounded_kernel():
    model = sparse([keras.Input((64,)), L.Dense(32, use_bias=False)], keep=1.0)
    x = samples(model)
    kernel = np.asarray(model.layers[0].kernel)
    step = np.abs(kernel).max() / 127  # one scale for a dense layer's kernel, or one a column
    steps = np.abs(kernel).max(0) / 127
    found = outputs(content(model, x, "int8_weights"), x)
    candidates = [x @ (np.round(kernel / s) * s) for s in (step, steps)]
    assert min(np.abs(found - c).max() for c in candidates) < 1e-5


def test_arithmetic_is_float():
    """Beside a thousand a one still counts, where a dynamic-range file rounds it to zero."""
    model = sparse([keras.Input((64,)), L.Dense(32, use_bias=False)], keep=1.0)
    x = np.zeros((2, 64), "float32")
    x[:, 0], x[1, 1] = 1000.0, 1.0
    one = {}
    for name in ("float32", "int8_weights", "dynamic_int8"):
        found = outputs(content(model, x, name), x)
        one[name] = found[1] - found[0]
    np.testing.assert_allclose(one["int8_weights"], one["float32"], atol=0.01)
    assert not one["dynamic_int8"].any()


def test_every_kernel_is_dequantised_once():
    model = cnn()
    file = flatbuffer.read(content(model, samples(model), "int8_weights"))
    graph = file.subgraphs[0]
    kinds = [flatbuffer.kind(file, operator) for operator in graph.operators]
    int8 = [
        use.kind
        for use in flatbuffer.kernels(file)
        if flatbuffer.constant(file, graph.tensors[use.tensor]).size
        == np.prod(graph.tensors[use.tensor].shape)
    ]
    assert kinds.count("DEQUANTIZE") == len(int8) == 4
