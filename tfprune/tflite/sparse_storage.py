"""Kernels stored without their zeros, each only where that is smaller and the runtime computes it.

TensorFlow's own encoder (Optimize.EXPERIMENTAL_SPARSITY) takes all kernels or none, and the file
may then not load or return other values. Here each kernel is chosen by itself:

  format    CSR along the last axis (TACO's dense levels and one compressed; Kjolstad et al. 2017),
            of single weights or of blocks of 2, 4, 8 or 16: whichever takes the fewest bytes.
  reading   an operator DENSIFY restores the kernel on loading, which every float and every integer
            convolution takes. XNNPACK starts its sparse kernels only if there is one. A fully
            connected layer of float32 in blocks of 4, and of int8 in blocks of 16, has kernels of
            LiteRT's own that read it as it is: no other sparse storage loads for the latter.
  refused   int8 kernels that meet float activations: no runtime tried loads them.

Break-even is where values and indices together are smaller than the kernel: at 20 to 33 % zeros for
float32, 33 to 50 % for float16, 50 to 67 % for int8, by one-byte and two-byte indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfprune.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

_BLOCKS = (1, 2, 4, 8, 16)
# Bytes of the tables that come with a sparse tensor, and with the operator that restores it.
_TABLES = 450
# The blocks that LiteRT's own kernels of a fully connected layer read, and from how many zeros on
# that of float32 is faster than the dense one.
_DIRECT = {"float32": 4, "int8": 16}
_FASTER = 0.75
_SPARSE_VERSION = 8  # of FULLY_CONNECTED
_FLOAT32, _FLOAT16, _INT8 = 0, 1, 9  # TensorType of the schema, whose import takes a while


class Storage(NamedTuple):
    """How a kernel is stored.

    Attributes:
      tensor: its name in the file.
      kind: of the operator that uses it.
      sparsity: fraction of zeros in it.
      bytes: as it is stored.
      dense_bytes: with its zeros.
      sparse: whether it is stored without them.
      reason: why it isn't, or why it could not be.
    """

    tensor: str
    kind: str
    sparsity: float
    bytes: int
    dense_bytes: int
    sparse: bool
    reason: str


class _Csr(NamedTuple):
    """A kernel without its zeros: blocks of values, row after row, and where in a row they are."""

    values: np.ndarray
    segments: np.ndarray
    indices: np.ndarray
    block: int

    @property
    def bytes(self) -> int:
        return self.values.nbytes + self.segments.nbytes + self.indices.nbytes


class _Choice(NamedTuple):
    """How a kernel is to be stored, None for dense; whether operators read it so; why not."""

    csr: _Csr | None
    direct: bool = False
    reason: str = ""


def encode(model: schema.ModelT) -> None:
    """Stores the kernels of `model` without zeros where that pays and the runtime computes it."""
    graph, first = model.subgraphs[0], []
    for index, readers in _readers(model).items():
        choice = _choose(model, index, readers)
        if choice.csr is None:
            continue
        kept, buffer = graph.tensors[index], flatbuffer.add_buffer(model, choice.csr.values)
        old = kept.buffer
        fields = {"buffer": buffer, "sparsity": _parameters(choice.csr, kept.shape)}
        if choice.direct:
            for field, value in fields.items():
                setattr(kept, field, value)
            for use in readers:
                use.operator.opcodeIndex = flatbuffer.add_opcode(
                    model, use.kind, version=_SPARSE_VERSION
                )
        else:
            sparse = flatbuffer.add_tensor(graph, kept, name=b"/sparse", **fields)
            kept.buffer = 0  # the empty one
            first.append(flatbuffer.unary(model, "DENSIFY", tensor=sparse, output=index, version=1))
        if not any(t.buffer == old for part in model.subgraphs for t in part.tensors):
            model.buffers[old].data = None
    graph.operators[:0] = first


def describe(model: schema.ModelT) -> list[Storage]:
    """Returns how each kernel in a file is stored, in the order of the operators that use them."""
    rows = []
    for index, readers in _readers(model).items():
        tensor = model.subgraphs[0].tensors[index]
        # The converter lists all that it fused.
        name = tensor.name.decode(errors="replace").partition(";")[0]
        stored, shape = flatbuffer.constant(model, tensor), tuple(tensor.shape)
        size = int(np.prod(shape, dtype=np.int64))
        kernel = _numbers(tensor.type, stored)
        width = kernel.itemsize if kernel is not None else stored.size / size
        if tensor.sparsity is None:
            zeros = 0.0 if kernel is None else float(np.mean(kernel == 0))
            reason = _choose(model, index, readers).reason
            row = Storage(name, readers[0].kind, zeros, stored.size, stored.size, False, reason)
        else:
            parts = [
                part.values
                for level in tensor.sparsity.dimMetadata
                for part in (level.arraySegments, level.arrayIndices)
                if part is not None
            ]
            zeros = 1 - int(np.count_nonzero(kernel)) / size
            held = stored.size + sum(part.nbytes for part in parts)
            row = Storage(name, readers[0].kind, zeros, held, int(size * width), True, "")
        rows.append(row)
    return rows


def _readers(model: schema.ModelT) -> dict[int, list[flatbuffer.Kernel]]:
    """Returns {index of a kernel's tensor: its uses}."""
    found: dict[int, list[flatbuffer.Kernel]] = {}
    for use in flatbuffer.kernels(model):
        found.setdefault(use.tensor, []).append(use)
    return found


def _choose(model: schema.ModelT, index: int, readers: list[flatbuffer.Kernel]) -> _Choice:
    tensors = model.subgraphs[0].tensors
    stored = tensors[index]
    kernel = _numbers(stored.type, flatbuffer.constant(model, stored))
    if kernel is None:
        return _Choice(None, reason="sparse storage takes float32, float16 and int8")
    kernel = kernel.reshape(stored.shape)
    read_as_is = all(int(use.operator.inputs[use.slot]) == index for use in readers)
    activations = {tensors[int(use.operator.inputs[_data(use)])].type for use in readers}
    own = read_as_is and {use.kind for use in readers} == {"FULLY_CONNECTED"}
    if kernel.dtype == np.int8 and read_as_is:
        if _FLOAT32 in activations:
            return _Choice(None, reason="dynamic-range operators refuse sparse weights")
        if np.any(stored.quantization.zeroPoint):
            return _Choice(None, reason="its zeros are not stored as 0")
        if own and activations == {_INT8}:
            return _smaller([_csr(kernel, _DIRECT["int8"])], kernel, direct=True)
    direct = _csr(kernel, _DIRECT["float32"]) if own and kernel.dtype == np.float32 else None
    if direct and direct.values.size <= (1 - _FASTER) * kernel.size:
        return _smaller([direct], kernel, direct=True)
    return _smaller([_csr(kernel, block) for block in _BLOCKS], kernel)


def _smaller(found: list[_Csr | None], kernel: np.ndarray, *, direct: bool = False) -> _Choice:
    """Returns the smallest of what was `found`, if it is smaller than the kernel."""
    found = [csr for csr in found if csr]
    if not found:
        return _Choice(None, reason=f"its rows are no multiple of {_DIRECT['int8']} inputs")
    least = min(found, key=lambda csr: csr.bytes)
    if least.bytes + _TABLES < kernel.nbytes:
        return _Choice(least, direct)
    blocks = f" of whole blocks of {least.block}" if direct else ""
    zeros = 1 - least.values.size / kernel.size if direct else np.mean(kernel == 0)
    return _Choice(
        None,
        reason=f"{100 * zeros:.0f} % zeros{blocks}: {least.bytes + _TABLES:,} bytes without them, "
        f"{kernel.nbytes:,} with",
    )


def _csr(kernel: np.ndarray, block: int) -> _Csr | None:
    """Returns a kernel in blocks along its last axis, None if they don't fit."""
    if kernel.shape[-1] % block:
        return None
    rows = kernel.reshape(-1, kernel.shape[-1] // block, block)
    kept = (rows != 0).any(-1)
    kept.flat[0] |= not kept.any()  # an empty buffer is none
    segments = np.concatenate([[0], np.cumsum(kept.sum(1))])
    return _Csr(rows[kept].ravel(), _narrow(segments), _narrow(np.nonzero(kept)[1]), block)


def _narrow(numbers: np.ndarray) -> np.ndarray:
    most = numbers.max(initial=0)
    return numbers.astype(next(t for t in ("uint8", "uint16", "int32") if most <= np.iinfo(t).max))


def _parameters(csr: _Csr, shape: np.ndarray) -> schema.SparsityParametersT:
    from ai_edge_litert import schema_py_generated as schema

    def level(size: int) -> schema.DimensionMetadataT:
        made = schema.DimensionMetadataT()
        made.format, made.denseSize = schema.DimensionType.DENSE, int(size)
        return made

    def vector(numbers: np.ndarray) -> tuple[int, object]:
        kind = f"{numbers.dtype.name.capitalize()}Vector"
        made = getattr(schema, kind + "T")()
        made.values = numbers
        return getattr(schema.SparseIndexVector, kind), made

    compressed = schema.DimensionMetadataT()
    compressed.format = schema.DimensionType.SPARSE_CSR
    compressed.arraySegmentsType, compressed.arraySegments = vector(csr.segments)
    compressed.arrayIndicesType, compressed.arrayIndices = vector(csr.indices)
    made = schema.SparsityParametersT()
    made.dimMetadata = [*(level(size) for size in shape[:-1]), compressed]
    if csr.block > 1:
        made.dimMetadata.append(level(csr.block))
        made.blockMap = [len(shape) - 1]
    made.traversalOrder = list(range(len(made.dimMetadata)))
    return made


def _numbers(kind: int, content: np.ndarray) -> np.ndarray | None:
    name = {_FLOAT32: "float32", _FLOAT16: "float16", _INT8: "int8"}.get(kind)
    return None if name is None else content.view(name)


def _data(use: flatbuffer.Kernel) -> int:
    """Returns which input of an operator holds the activations."""
    return 2 if use.kind == "TRANSPOSE_CONV" else 0
