"""The inputs and outputs of a .tflite file, read from the file: no runtime is needed for it."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfprune.measurement import devices
from tfprune.measurement.devices import _worker

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

_DAMAGES = (struct.error, IndexError, ValueError, TypeError, AttributeError)


@dataclasses.dataclass(frozen=True)
class Interface:
    """What goes in and out of a model, in the terms of an interpreter's `get_input_details`.

    Attributes:
      inputs: {name: tensor}, by the names of the signature where there is one.
      outputs: the tensors in the order of their names in the signature, or else of the file.
      fed: the input tensors in the order of the file.
      left: the output tensors in the order of the file.
      signature: its name if it must be chosen among several.
      sparse_tensors: how many tensors are stored sparse.
    """

    inputs: dict[str, dict]
    outputs: list[dict]
    fed: list[dict]
    left: list[dict]
    signature: str | None
    sparse_tensors: int


def read(path: Path) -> Interface:
    """Returns the interface of a file's first signature, or of its main graph if it has none.

    Raises:
      Failed: if the file is damaged or has tensors that are not numbers.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = path.read_bytes()
    try:
        if not schema.Model.ModelBufferHasIdentifier(content, 0):
            raise ValueError("it doesn't begin as one")
        return _interface(schema.Model.GetRootAs(content))
    except _DAMAGES as error:
        raise devices.Failed(f"the file is damaged or no .tflite file: {error}") from error


def _interface(model: schema.Model) -> Interface:
    count = model.SignatureDefsLength()
    signature = model.SignatureDefs(0) if count else None
    graph = model.Subgraphs(signature.SubgraphIndex() if signature else 0)
    fed, left = (
        [_tensor(graph.Tensors(index), index) for index in indices.tolist()]
        for indices in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
    )
    inputs, outputs = {tensor["name"]: tensor for tensor in fed}, left
    if signature:
        inputs = _named(map(signature.Inputs, range(signature.InputsLength())), graph)
        outputs = _named(map(signature.Outputs, range(signature.OutputsLength())), graph)
        # As the worker orders them.
        outputs = [outputs[name] for name in sorted(outputs, key=_worker._natural)]
    return Interface(
        inputs=inputs,
        outputs=outputs,
        fed=fed,
        left=left,
        signature=signature.SignatureKey().decode() if count > 1 else None,
        sparse_tensors=sum(
            graph.Tensors(index).Sparsity() is not None for index in range(graph.TensorsLength())
        ),
    )


def _named(items: Iterable[schema.TensorMap], graph: schema.SubGraph) -> dict[str, dict]:
    return {
        item.Name().decode(): _tensor(graph.Tensors(item.TensorIndex()), item.TensorIndex())
        for item in items
    }


def _tensor(tensor: schema.Tensor, index: int) -> dict:
    quantization = tensor.Quantization()
    scale, zero = 0.0, 0
    if quantization and quantization.ScaleLength() == 1:
        scale = quantization.Scale(0)
        zero = quantization.ZeroPoint(0) if quantization.ZeroPointLength() else 0
    shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else np.zeros(0, np.int32)
    return {
        "name": tensor.Name().decode(),
        "index": index,
        "shape": shape,
        "dtype": _dtype(tensor.Type()),
        "quantization": (scale, zero),
    }


def _dtype(number: int) -> np.dtype:
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    try:
        return np.dtype(names[number].lower())
    except TypeError:
        raise devices.Failed(
            f"it takes or gives tensors of type {names[number]}, which are no plain numbers"
        ) from None
