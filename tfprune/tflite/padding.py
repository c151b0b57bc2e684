"""Padding "same" written out as an operator PAD, where it is even on all sides.

TensorFlow's converter folds an even ZeroPadding2D into a convolution's "same". XNNPACK's dense
kernels don't mind, but the sparse path asks for numbers: of "same" with stride 2 it does not find
out that it is even, as it is for 3x3 at odd sizes. XNNPACK fuses the PAD, so it costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfprune.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

_SAME, _VALID, _FLOAT32 = 0, 1, 0  # Padding and TensorType of the schema, slow to import


def explicit(model: schema.ModelT) -> int:
    """Writes even "same" padding of strided float32 convolutions out; returns how many it was.

    Args:
      model: the file's content, which is changed.
    """
    graph, operators, changed = model.subgraphs[0], [], 0
    for op in graph.operators:
        amount = _amount(model, op)
        if amount is not None:
            operators.append(_pad(model, op, amount))
            changed += 1
        operators.append(op)
    graph.operators = operators
    return changed


def _amount(model: schema.ModelT, op: schema.OperatorT) -> np.ndarray | None:
    """Returns (before, after) for height and width, (2, 2); None where "same" may stay."""
    if flatbuffer.kind(model, op) not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return None
    options, tensors = op.builtinOptions, model.subgraphs[0].tensors
    source, kernel = (tensors[i] for i in op.inputs[:2])
    strides = np.array([options.strideH, options.strideW])
    if options.padding != _SAME or source.type != _FLOAT32 or (strides == 1).all():
        return None
    size = np.asarray(source.shape)[1:3]
    dilation = np.array([options.dilationHFactor, options.dilationWFactor])
    reach = (np.asarray(kernel.shape)[1:3] - 1) * dilation + 1
    total = np.maximum((-(-size // strides) - 1) * strides + reach - size, 0)
    return None if (total % 2).any() or not total.any() else np.stack([total // 2] * 2, axis=1)


def _pad(model: schema.ModelT, op: schema.OperatorT, amount: np.ndarray) -> schema.OperatorT:
    """Returns a PAD in front of `op`, which pads no more itself."""
    graph, source = model.subgraphs[0], int(op.inputs[0])
    amounts = np.zeros((4, 2), np.int32)
    amounts[1:3] = amount
    before = graph.tensors[source]
    shape = np.asarray(before.shape, np.int32) + amounts.sum(axis=1, dtype=np.int32)
    padded = flatbuffer.add_tensor(
        graph, before, name=b"/padded", shape=shape, shapeSignature=None, buffer=0
    )
    numbers = flatbuffer.add_tensor(
        graph,
        before,
        name=b"/padding",
        shape=np.array([4, 2], np.int32),
        shapeSignature=None,
        type=2,  # INT32
        buffer=flatbuffer.add_buffer(model, amounts),
    )
    pad = flatbuffer.unary(model, "PAD", tensor=source, output=padded, version=1)
    pad.inputs = np.array([source, numbers], np.int32)
    op.inputs = np.array([padded, *op.inputs[1:]], np.int32)
    op.builtinOptions.padding = _VALID
    return pad
