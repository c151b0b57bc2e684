"""int8 weights with float32 arithmetic: kernels are stored as int8 and dequantised on loading.

A dynamic-range file multiplies by int8 kernels directly; here an operator DEQUANTIZE stands before
each. The runtime computes it once, since its input is constant. Unlike int8 kernels, float ones
may come out of sparse storage in every operator, and XNNPACK runs them by its sparse kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfprune.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

# Of version 5 is DEQUANTIZE of int8 with a scale for each channel.
_VERSION = 5


def dequantise(model: schema.ModelT) -> None:
    """Puts DEQUANTIZE between int8 kernels and the operators that compute in float32."""
    from ai_edge_litert import schema_py_generated as schema

    kinds, graph = schema.TensorType, model.subgraphs[0]
    made: dict[int, int] = {}
    first = []
    for use in flatbuffer.kernels(model):
        stored = graph.tensors[use.tensor]
        result = graph.tensors[int(use.operator.outputs[0])]
        if stored.type != kinds.INT8 or result.type != kinds.FLOAT32:
            continue
        if use.tensor not in made:
            output = flatbuffer.add_tensor(
                graph, stored, name=b"/float32", type=kinds.FLOAT32, quantization=None, buffer=0
            )
            made[use.tensor] = output
            first.append(
                flatbuffer.unary(
                    model, "DEQUANTIZE", tensor=use.tensor, output=output, version=_VERSION
                )
            )
        use.operator.inputs = use.operator.inputs.copy()
        use.operator.inputs[use.slot] = made[use.tensor]
    graph.operators[:0] = first
