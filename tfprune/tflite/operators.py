"""The operators of a .tflite file as XNNPACK gets them: weights unpacked, padding fused, in parts.

What LiteRT's delegate does before XNNPACK sees a graph: weights that pass through DENSIFY or
DEQUANTIZE are unpacked once, when the file is loaded, and are constants from then on. Operators
that XNNPACK doesn't know split the graph into parts that know nothing of each other. In each part
a PAD that only one convolution reads becomes that convolution's own padding, and a stride of 1
turns TensorFlow's "same" into numbers. Read in LiteRT 2.3, tflite/delegates/xnnpack, and XNNPACK,
src/subgraph.c.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from tfprune.tflite import flatbuffer

if TYPE_CHECKING:
    from ai_edge_litert import schema_py_generated as schema

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("MEAN", "SUM")  # over whole axes
# One map in, one of the same shape out, each value by itself.
# fmt: off
UNARY = (
    "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE",
    "TANH",
)
_OTHERS = (
    "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "DEPTH_TO_SPACE", "DEQUANTIZE",
    "DIV", "EXPAND_DIMS", "FULLY_CONNECTED", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL",
    "PAD", "PRELU", "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "RESHAPE", "RESIZE_BILINEAR", "SLICE",
    "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "SUB", "SUM",
    "TRANSPOSE", "TRANSPOSE_CONV",
)
# fmt: on
_KNOWN = {*CONVOLUTIONS, *UNARY, *_OTHERS}
_TYPES = {"FLOAT32": "f4", "FLOAT16": "f2", "INT8": "i1", "UINT8": "u1"}
# TFLite's own kernels read these weights as they are stored: XNNPACK refuses the operator.
_SPARSE_FULLY_CONNECTED = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the main graph.

    Attributes:
      zeros: how many of a constant's values are zero, None for what is computed.
      unpacked: whether it is a constant that passes through DENSIFY.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    kind: str
    zeros: int | None = None
    unpacked: bool = False

    @property
    def constant(self) -> bool:
        """Whether it is known before the model runs."""
        return self.zeros is not None

    @property
    def size(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> int:
        """Height times width of a map; 1 for what is no map."""
        return self.shape[1] * self.shape[2] if len(self.shape) == 4 else 1


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """One operator. `inputs` has None for one that is left out; `padding` is that of fused PADs.

    `numbers` are the amounts of a PAD, (axes, 2), and the axes of a MEAN or SUM. `part` numbers the
    parts of the graph that XNNPACK runs; None for what TFLite runs itself. `state` is "stored" for
    what is done when the file is loaded, "fused" for a PAD that became part of the convolution
    behind it, else empty.
    """

    index: int
    kind: str
    options: object
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    numbers: np.ndarray | None = None
    part: int | None = None
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    state: str = ""

    @property
    def computed(self) -> list[Tensor]:
        """The inputs that aren't constant."""
        return [x for x in self.inputs if x is not None and not x.constant]

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    @property
    def kernel(self) -> Tensor | None:
        """The constant weights of a convolution or dense layer, (outputs, ..., inputs)."""
        kinds = (*CONVOLUTIONS, "FULLY_CONNECTED")
        return self.inputs[1] if self.kind in kinds and self.inputs[1].constant else None

    @property
    def pointwise(self) -> bool:
        """Whether it multiplies each pixel by one matrix: to XNNPACK these are one operator."""
        if self.kind == "FULLY_CONNECTED":
            return self.kernel is not None
        return (
            self.kind == "CONV_2D"
            and self.kernel is not None
            and self.window.kernel == self.window.strides == (1, 1)
            and self.kernel.shape[-1] == self.inputs[0].shape[-1]
        )

    @functools.cached_property
    def window(self) -> Window:
        """How a convolution walks over its input."""
        options, size = self.options, self.inputs[1].shape[1:3]
        strides = options.strideH, options.strideW
        dilation = options.dilationHFactor, options.dilationWFactor
        same, low, high = options.padding == 0, (0, 0), (0, 0)
        if same and strides == (1, 1):
            same = False
            total = [(k - 1) * d for k, d in zip(size, dilation, strict=True)]
            low = [n // 2 for n in total]
            high = [n - m for n, m in zip(total, low, strict=True)]
        fused = self.padding
        own = low[0], high[0], low[1], high[1]
        padding = tuple(a + b for a, b in zip(own, fused, strict=True))
        return Window(tuple(size), strides, dilation, padding, same)


@dataclasses.dataclass(frozen=True)
class Window:
    """Kernel, strides and dilation (height, width), padding (top, bottom, left, right).

    `same` says that TensorFlow's "same" is left for the kernel to work out; `padding` is 0 then.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    same: bool


def read(model: schema.ModelT) -> Graph:
    """Returns the main graph of a file's content.

    Raises:
      ValueError: if the file is damaged.
    """
    try:
        return Graph(model)
    except (IndexError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"the file is damaged: {error}") from error


class Graph:
    """The main graph of a file, in the order in which it runs.

    Attributes:
      operators: all of them.
      inputs, outputs: indices of the tensors that go in and out.
      makers: {tensor: operator that computes it}.
      readers: {tensor: operators that read it, each once}, without those that are fused or stored.
    """

    def __init__(self, model: schema.ModelT) -> None:
        graph = model.subgraphs[0]
        self.inputs, self.outputs = set(graph.inputs), set(graph.outputs)
        self.operators = _operators(model, graph)
        self._split()
        self._index()
        self._fuse()
        self._index()

    def _index(self) -> None:
        self.makers: dict[int, Operator] = {}
        self.readers: dict[int, list[Operator]] = collections.defaultdict(list)
        for op in self.running:
            self.makers |= dict.fromkeys((x.index for x in op.outputs), op)
            for index in dict.fromkeys(x.index for x in op.computed):
                self.readers[index].append(op)

    @property
    def running(self) -> list[Operator]:
        """The operators that are run with each inference."""
        return [op for op in self.operators if not op.state]

    def leaves(self, tensor: Tensor) -> bool:
        """Returns whether a tensor is needed outside the part of the graph that computes it."""
        part = self.makers[tensor.index].part
        return tensor.index in self.outputs or any(
            op.part != part for op in self.readers[tensor.index]
        )

    def _split(self) -> None:
        """Gives operators the number of their part, as TFLite groups them.

        What is ready and of one side, XNNPACK's or TFLite's own, goes as far as it reaches.
        """
        ready, left, part = set(self.inputs), self.running, 0
        while left:
            side, rest = None, []
            for op in left:
                side = _known(op) if side is None and _ready(op, ready) else side
                if side is not None and _known(op) == side and _ready(op, ready):
                    self._replace(op, part=part if side else None)
                    ready |= {x.index for x in op.outputs}
                else:
                    rest.append(op)
            if len(rest) == len(left):
                raise ValueError("the graph is damaged: an operator reads what nothing computes")
            left, part = rest, part + 1

    def _fuse(self) -> None:
        for pad in [op for op in self.running if op.kind == "PAD" and op.part is not None]:
            readers, amounts = self.readers[pad.output.index], pad.numbers
            if (
                len(readers) != 1
                or readers[0].kind not in CONVOLUTIONS
                or readers[0].window.same
                or readers[0].pointwise
                or self.leaves(pad.output)
                or pad.output.kind != "FLOAT32"
                or amounts is None
                or amounts.shape != (4, 2)
                or amounts[[0, 3]].any()
            ):
                continue
            self._replace(pad, state="fused")
            reader = self.operators[readers[0].index]
            self._replace(
                reader,
                inputs=(pad.inputs[0], *reader.inputs[1:]),
                padding=tuple(int(n) for n in amounts[1:3].ravel()),
            )

    def _replace(self, op: Operator, **changes: object) -> None:
        self.operators[op.index] = dataclasses.replace(op, **changes)


def _ready(op: Operator, ready: set[int]) -> bool:
    return all(x.index in ready for x in op.computed)


def _known(op: Operator) -> bool:
    """Returns whether XNNPACK runs an operator; what it asks of rare forms is left out."""
    kinds = {x.kind for x in (*op.computed, *op.outputs)}
    listed = op.kind not in ("PAD", *POOLS) or op.numbers is not None
    return op.kind in _KNOWN and listed and kinds <= set(_TYPES)


def _operators(model: schema.ModelT, graph: schema.SubGraphT) -> list[Operator]:
    tensors = [_tensor(model, x, index) for index, x in enumerate(graph.tensors)]
    result = []
    for index, op in enumerate(graph.operators):
        kind, state, numbers = flatbuffer.kind(model, op), "", None
        inputs = [tensors[i] if i >= 0 else None for i in op.inputs]
        if kind in ("DENSIFY", "DEQUANTIZE") and inputs[0].constant:
            state, output = "stored", int(op.outputs[0])
            tensors[output] = dataclasses.replace(
                tensors[output],
                zeros=inputs[0].zeros,
                unpacked=inputs[0].unpacked or kind == "DENSIFY",
            )
        if kind in ("PAD", *POOLS) and inputs[1].constant:
            stored = flatbuffer.constant(model, graph.tensors[op.inputs[1]])
            numbers = stored.view(f"i{stored.size // inputs[1].size}").reshape(inputs[1].shape)
        version = model.operatorCodes[op.opcodeIndex].version
        if kind == "FULLY_CONNECTED" and version == _SPARSE_FULLY_CONNECTED:
            kind = "SPARSE_FULLY_CONNECTED"
        outputs = tuple(tensors[i] for i in op.outputs)
        found = Operator(index, kind, op.builtinOptions, tuple(inputs), outputs, numbers)
        result.append(dataclasses.replace(found, state=state))
    return result


def _tensor(model: schema.ModelT, tensor: schema.TensorT, index: int) -> Tensor:
    shape = () if tensor.shape is None else tuple(int(n) for n in tensor.shape)
    name = (tensor.name or b"").decode(errors="replace")
    kind, stored = _kinds()[tensor.type], flatbuffer.constant(model, tensor)
    zeros = None
    if stored is not None:
        # What is stored without zeros may still hold some, to fill its blocks.
        known = kind in _TYPES
        zeros = math.prod(shape) - int(np.count_nonzero(stored.view(_TYPES[kind]))) if known else 0
    return Tensor(index, name, shape, kind, zeros)


@functools.cache
def _kinds() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(schema.TensorType).items() if name.isupper()}
