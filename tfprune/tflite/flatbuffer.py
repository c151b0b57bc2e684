"""A .tflite file as objects of its schema, and back."""

from __future__ import annotations

import copy
import functools
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import flatbuffers
import numpy as np

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

IDENTIFIER = b"TFL3"
# Of the operators that have one, which input is the kernel.
KERNEL = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
# The schema wants constants at multiples of 16 bytes: kernels read them by vectors.
_ALIGNMENT = 16


def read(source: bytes | str | os.PathLike) -> schema.ModelT:
    """Returns the model in a .tflite file, given by its path or its content.

    Raises:
      ValueError: if it is no TFLite file, or damaged, with what is wrong.
      OSError: if the file can't be read.
    """
    from ai_edge_litert import schema_py_generated as schema

    named = "the file" if isinstance(source, bytes) else f"file {os.fspath(source)!r}"
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not content:
        raise ValueError(f"{named} is empty")
    if content[4:8] != IDENTIFIER:
        raise ValueError(f"{named} is no TFLite file: bytes 4 to 8 are not {IDENTIFIER.decode()!r}")
    try:
        model = schema.ModelT.InitFromPackedBuf(content)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{named} is damaged or cut short: {error}") from error
    if not model.subgraphs or not model.buffers or not model.operatorCodes:
        raise ValueError(f"{named} is damaged: it holds no graph")
    return model


def write(model: schema.ModelT) -> bytes:
    """Returns the content of a .tflite file."""
    builder = _Builder(1 << 16)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Builder(flatbuffers.Builder):
    """Puts what the generated code writes byte by byte where kernels can read it."""

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        if x.itemsize == 1:
            self.Prep(_ALIGNMENT, x.size)
        return super().CreateNumpyVector(x)


class Kernel(NamedTuple):
    """A constant kernel and the operator that uses it.

    Attributes:
      kind: of the operator, such as "CONV_2D".
      operator: the operator.
      slot: which of its inputs comes from the kernel.
      tensor: index of the tensor that holds the kernel's constant.
    """

    kind: str
    operator: schema.OperatorT
    slot: int
    tensor: int


def kernels(model: schema.ModelT) -> Iterator[Kernel]:
    """Yields the constant kernels of the main graph, also those that are dequantised first."""
    graph = model.subgraphs[0]
    sources = {
        int(output): op
        for op in graph.operators
        for output in op.outputs
        if kind(model, op) in ("DEQUANTIZE", "DENSIFY")
    }
    for operator in graph.operators:
        slot = KERNEL.get(kind(model, operator))
        if slot is None:
            continue
        tensor = int(operator.inputs[slot])
        while tensor in sources:
            tensor = int(sources[tensor].inputs[0])
        if constant(model, graph.tensors[tensor]) is not None:
            yield Kernel(kind(model, operator), operator, slot, tensor)


def constant(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray | None:
    """Returns the stored bytes of a `tensor`, None if it is computed."""
    data = model.buffers[tensor.buffer].data
    return data if isinstance(data, np.ndarray) and data.size else None


def kind(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Returns the name of an operator, such as "CONV_2D"."""
    return _kinds()[opcode(model, operator)]


def opcode(model: schema.ModelT, operator: schema.OperatorT) -> int:
    """Returns the `BuiltinOperator` of an operator; early files have it in a field of one byte."""
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


@functools.cache
def _kinds() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()}


def add_tensor(
    graph: schema.SubGraphT, like: schema.TensorT, *, name: bytes, **fields: object
) -> int:
    """Adds a tensor that is `like` another but for some `fields`; returns its index."""
    made = copy.copy(like)
    made.name = like.name + name
    for field, value in fields.items():
        setattr(made, field, value)
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def add_buffer(model: schema.ModelT, content: bytes | np.ndarray) -> int:
    """Adds a constant; returns the index of its buffer."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.BufferT()
    made.data = np.frombuffer(content, np.uint8)  # whatever it is, seen as bytes
    model.buffers.append(made)
    return len(model.buffers) - 1


def add_opcode(model: schema.ModelT, name: str, *, version: int) -> int:
    """Returns the index of an operator's code in a version, which is added if need be."""
    from ai_edge_litert import schema_py_generated as schema

    number = getattr(schema.BuiltinOperator, name)
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == number and code.version == version:
            return index
    made = schema.OperatorCodeT()
    made.builtinCode, made.version = number, version
    most = schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES
    made.deprecatedBuiltinCode = min(number, most)
    model.operatorCodes.append(made)
    return len(model.operatorCodes) - 1


def unary(
    model: schema.ModelT, name: str, *, tensor: int, output: int, version: int
) -> schema.OperatorT:
    """Returns an operator without options that computes `output` from `tensor`."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.OperatorT()
    made.opcodeIndex = add_opcode(model, name, version=version)
    made.inputs, made.outputs = (np.array([x], np.int32) for x in (tensor, output))
    return made
