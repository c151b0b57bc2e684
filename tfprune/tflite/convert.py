"""Keras 3 model to .tflite bytes."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfprune.tflite import clusters, flatbuffer, padding, sparse_storage, weight_only
from tfprune.tflite.variants import Variant

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema

Arrays = np.ndarray | dict | list | tuple


def trace(model: keras.Model, example: Arrays) -> tf.Module:
    """Returns a module whose function `serve` computes `model` for one sample.

    Its signature names inputs `input_0`, ... and outputs `output_0`, ..., in the order of
    `keras.tree.flatten`.

    Args:
      model: any Keras model: functional, sequential, nested or subclassed.
      example: inputs with a leading sample axis; they give shapes and types.
    """
    import keras
    import tensorflow as tf

    specs = [
        tf.TensorSpec((1, *part.shape[1:]), part.dtype, name=f"input_{i}")
        for i, part in enumerate(keras.tree.flatten(example))
    ]

    def serve(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model(keras.tree.pack_sequence_as(example, inputs), training=False)
        return {f"output_{i}": part for i, part in enumerate(keras.tree.flatten(outputs))}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=specs)
    # TensorFlow doesn't find the variables behind Keras 3's own, and what it doesn't find
    # the file would lack.
    module.held = list(module.serve.get_concrete_function().variables)
    return module


def convert(
    module: tf.Module, variant: Variant, calibration: Sequence[np.ndarray] | None = None
) -> bytes:
    """Returns the .tflite file of a traced model.

    Args:
      module: from `trace`.
      variant: the kind of file. Of a sparse one, all kernels are stored with their zeros where
        XNNPACK would compute wrong values otherwise: see `clusters`.
      calibration: arrays, one an input, one sample a row; `variant.calibrated` needs them.

    Raises:
      ValueError: if calibration samples are missing, or the model loops over time steps.
      RuntimeError: if the converter can't convert the model, with what it said.
    """
    import tensorflow as tf

    function = module.serve.get_concrete_function()
    if variant.calibrated and calibration is None:
        raise ValueError(
            "integer activations need ranges seen on real samples: pass calibration=, or "
            "--dataset (some hundred training inputs)"
        )
    if variant.calibrated and _loops(function):
        # TensorFlow 2.21's calibrator ends the whole process with SIGSEGV on these.
        raise ValueError(
            "the converter can't calibrate a loop: build recurrent layers with unroll=True"
        )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    if variant.weights != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if variant.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if variant.calibrated:
        converter.target_spec.supported_ops = _integer_ops(variant)
        converter.representative_dataset = lambda: _samples(calibration)
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(variant.io)
    said: list[str] = []
    try:
        with quiet(said):
            content = converter.convert()
    except Exception as error:
        # The converter raises types of its own, and says much of the cause on stderr only.
        raise RuntimeError(f"the converter failed: {_cause(error, said)}") from error
    if variant.weights == "int8" and variant.arithmetic == "float32":
        file = flatbuffer.read(content)
        weight_only.dequantise(file)
        content = flatbuffer.write(file)
    if not variant.sparse:
        return content
    file = without_zeros(content)
    # Where XNNPACK would go wrong, as soon as it is told of sparse kernels, it is not told.
    return content if clusters.fault(file) else flatbuffer.write(file)


def without_zeros(content: bytes) -> schema.ModelT:
    """Returns a .tflite file with its kernels stored sparse where that pays."""
    file = flatbuffer.read(content)
    padding.explicit(file)
    sparse_storage.encode(file)
    return file


def _integer_ops(variant: Variant) -> list[tf.lite.OpsSet]:
    import tensorflow as tf

    ops = tf.lite.OpsSet
    if variant.arithmetic == "int8":
        return [ops.TFLITE_BUILTINS_INT8]
    # What has no kernel for int16 stays in float32.
    return [
        ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
        ops.TFLITE_BUILTINS,
    ]


def _loops(function: tf.types.experimental.ConcreteFunction) -> bool:
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return any(node.op in ("While", "StatelessWhile") for node in nodes)


def _samples(arrays: Sequence[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for row in range(len(arrays[0])):
        yield {f"input_{i}": part[row : row + 1] for i, part in enumerate(arrays)}


def _cause(error: Exception, said: list[str]) -> str:
    text = "\n".join([str(error), *said])
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", text)))
    if missing:
        return (
            f"LiteRT has no kernel for {', '.join(missing)}: "
            "express it by other operations, or convert with tf.lite.OpsSet.SELECT_TF_OPS, which "
            "needs an application with TensorFlow's own kernels "
            "(https://ai.google.dev/edge/litert/models/ops_select)"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines += [line.strip() for line in said if "error:" in line or line.startswith("E0000")]
    return " | ".join(dict.fromkeys(lines[:3])) or type(error).__name__


@contextlib.contextmanager
def quiet(said: list[str]) -> Iterator[None]:
    """Keeps C++ and Python output off the terminal inside the block; its lines go to `said`."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [(number, os.dup(number)) for number in (1, 2)]
        try:
            for number, _ in kept:
                os.dup2(file.fileno(), number)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            said += file.read().decode("utf-8", errors="replace").splitlines()
