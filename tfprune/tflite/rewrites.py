"""What is written otherwise in a Keras graph so that XNNPACK runs it sparse, function unchanged.

A rewrite is `rewrite(graph, once) -> edits`, {id of a layer: Edit}. It looks at one graph,
functional or sequential, and touches only layers that are called `once`.

  poolings       an AveragePooling2D over the whole map is a mean, which a cluster may end in
  heads          1x1 convolutions behind the last pooling are dense layers: XNNPACK gets the
                 pooling's shape wrong otherwise
  paddings       depthwise kernels are embedded with zeros in 3x3 padded by 1 or 5x5 padded by 2, so
                 that what they read stays: one-sided padding of stride 2, even kernels, dilation
  hard_sigmoids  of a gate: relu6(x + 3) / 6 loses its constant factor to the convolution behind it
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import keras
import numpy as np

from tfprune.graph.trace import Graph, Node

_L = keras.layers
_SIXTH = 1 / 6


@dataclasses.dataclass
class Edit:
    """How a layer is changed.

    Attributes:
      said: what is done, for the log.
      config: entries of its config that change.
      kind: the class of the layer that takes its place, if it is another.
      dropped: whether it goes, so that its input takes the place of its output.
      before, after: new layers around it, in the order in which they are called.
      layout: what becomes of its first variable, the kernel, and of that one's mask.
      scale: what its kernel is multiplied with besides.
    """

    said: str
    config: dict[str, object] = dataclasses.field(default_factory=dict)
    kind: type[keras.layers.Layer] | None = None
    dropped: bool = False
    before: list[keras.layers.Layer] = dataclasses.field(default_factory=list)
    after: list[keras.layers.Layer] = dataclasses.field(default_factory=list)
    layout: Callable[[np.ndarray], np.ndarray] | None = None
    scale: float = 1.0


Edits = dict[int, Edit]
Rewrite = Callable[[Graph, set[int]], Edits]


def poolings(graph: Graph, once: set[int]) -> Edits:
    """Returns edits that write poolings over the whole map as GlobalAveragePooling2D."""
    edits = {}
    for node in _nodes(graph, once, _L.AveragePooling2D):
        op, size = node.operation, node.inputs[0].shape[1:3]
        if op.pool_size == size and op.data_format == "channels_last":
            edits[id(op)] = Edit(
                "pools as GlobalAveragePooling2D",
                kind=_L.GlobalAveragePooling2D,
                config={"name": op.name, "dtype": op.dtype_policy, "keepdims": True},
            )
    return edits


# What works on vectors as on maps of one pixel, and what makes vectors of these.
_ELEMENTWISE = (_L.Activation, _L.Dropout, _L.LeakyReLU, _L.ReLU)
_FLATTENING = (_L.Flatten, _L.Reshape)


def heads(graph: Graph, once: set[int]) -> Edits:
    """Returns edits that make dense layers of 1x1 convolutions behind a last pooling."""
    edits: Edits = {}
    for node in _nodes(graph, once, _L.GlobalAveragePooling2D):
        if node.operation.keepdims and node.operation.data_format == "channels_last":
            edits |= _head(graph, node, once) or {}
    return edits


def _head(graph: Graph, pooling: Node, once: set[int]) -> Edits | None:
    """Returns the edits of one head; None if something in it needs a map."""
    edits = {id(pooling.operation): Edit("drops dimensions", config={"keepdims": False})}
    ends = {id(x) for x in graph.outputs}
    vectors, last = {id(pooling.outputs[0])}, [pooling]
    for node in graph.nodes:
        if not any(id(x) in vectors for x in node.inputs):
            continue
        op = node.operation
        if len(node.inputs) > 1 or id(op) not in once or not isinstance(op, keras.layers.Layer):
            return None
        if type(op) in _FLATTENING and len(node.outputs[0].shape) < 4:
            continue
        if type(op) is _L.Conv2D and op.kernel_size == (1, 1) and op.groups == 1:
            edits[id(op)] = _dense(op)
        elif type(op) is _L.BatchNormalization:
            edits[id(op)] = Edit("normalises a vector", config={"axis": -1})
        elif type(op) not in _ELEMENTWISE:
            return None
        vectors.add(id(node.outputs[0]))
        last.append(node)
    if last == [pooling]:
        return None  # the converter would put the dimensions back into the mean
    for node in last:
        if id(node.outputs[0]) in ends:
            edit = edits.setdefault(id(node.operation), Edit("is given its shape back"))
            edit.after.append(_L.Reshape(node.outputs[0].shape[1:]))
    return edits


def _dense(op: keras.layers.Conv2D) -> Edit:
    config = op.get_config()
    kept = {
        key: config[key]
        for key in _L.Dense(1).get_config().keys() & config.keys()
        if key != "quantization_config"
    }
    return Edit(
        "is a dense layer",
        kind=_L.Dense,
        config=kept | {"units": op.filters},
        layout=lambda kernel: kernel.reshape(kernel.shape[-2:]),
    )


def paddings(graph: Graph, once: set[int]) -> Edits:
    """Returns edits that pad convolutions evenly, embedding their kernels where need be."""
    edits: Edits = {}
    for node in _nodes(graph, once, _L.DepthwiseConv2D, _L.Conv2D):
        op, size = node.operation, node.inputs[0].shape[1:3]
        first = type(op) is _L.Conv2D
        if op.data_format != "channels_last" or None in size or op.strides not in ((1, 1), (2, 2)):
            continue
        if first and (node.inputs[0].shape[-1] != 3 or op.strides != (2, 2) or op.groups > 1):
            continue
        pad, low, size = _padded(graph, node, once)
        reach = [(k - 1) * d + 1 for k, d in zip(op.kernel_size, op.dilation_rate, strict=True)]
        width = next(
            (
                width
                for width in ((3,) if first else (3, 5))
                if all(
                    0 <= width // 2 - a <= width - r and (n - 1) // op.strides[0] + 1 == made
                    for a, r, n, made in zip(
                        low, reach, size, node.outputs[0].shape[1:3], strict=True
                    )
                )
            ),
            None,
        )
        if width is None or _even(node, pad, width):
            continue
        offset = [width // 2 - a for a in low]
        edit = Edit(
            f"{_by(op.kernel_size)} is {width}x{width} padded by {width // 2} on every side",
            config={"kernel_size": (width, width), "padding": "valid", "dilation_rate": (1, 1)},
            layout=_embedding(width, offset, op.dilation_rate),
        )
        if pad is None:
            layer = _L.ZeroPadding2D(width // 2, name=f"{op.name}_even", dtype=op.dtype_policy)
            edit.before.append(layer)
        else:
            edits[id(pad)] = Edit(
                f"pads by {width // 2} on every side", config={"padding": ((width // 2,) * 2,) * 2}
            )
        edits[id(op)] = edit
    return edits


def _padded(
    graph: Graph, node: Node, once: set[int]
) -> tuple[keras.layers.Layer | None, list[int], tuple[int, int]]:
    """Returns the padding layer before a convolution, zeros before its input, and its size."""
    op, source = node.operation, node.inputs[0]
    size = source.shape[1:3]
    if op.padding == "same":
        low = []
        for n, k, d, s in zip(size, op.kernel_size, op.dilation_rate, op.strides, strict=True):
            low.append(max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) // 2)
        return None, low, size
    before = next((x for x in graph.nodes if x.outputs and x.outputs[0] is source), None)
    if (
        before is not None
        and type(before.operation) is _L.ZeroPadding2D
        and id(before.operation) in once
        and _only_reader(graph, before) is node
    ):
        low = [amounts[0] for amounts in before.operation.padding]
        return before.operation, low, before.inputs[0].shape[1:3]
    return None, [0, 0], size


def _even(node: Node, pad: keras.layers.Layer | None, width: int) -> bool:
    """Returns whether a convolution pads by half its width on every side as it is.

    "same" is even with stride 1, and with stride 2 where the file can say so: see `padding`.
    """
    op = node.operation
    if op.kernel_size != (width, width) or op.dilation_rate != (1, 1):
        return False
    if op.padding == "same":
        return op.strides == (1, 1) or all(n % 2 for n in node.inputs[0].shape[1:3])
    return pad is not None and pad.padding == ((width // 2,) * 2,) * 2


def _embedding(
    width: int, offset: list[int], dilation: tuple[int, int]
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what puts a kernel's rows and columns into a larger one of zeros."""

    def embed(kernel: np.ndarray) -> np.ndarray:
        large = np.zeros((width, width, *kernel.shape[2:]), kernel.dtype)
        rows, columns = (
            o + d * np.arange(n) for o, d, n in zip(offset, dilation, kernel.shape[:2], strict=True)
        )
        large[np.ix_(rows, columns)] = kernel
        return large

    return embed


def hard_sigmoids(graph: Graph, once: set[int]) -> Edits:
    """Returns edits that take the factor 1/6 of gates into the convolution behind them."""
    edits: Edits = {}
    for node in graph.nodes:
        if id(node.operation) not in once:
            continue
        edit = _without_sixth(node)
        gated = _only_reader(graph, node) if edit is not None else None
        if gated is None or type(gated.operation) is not _L.Multiply or len(node.outputs) > 1:
            continue
        reader = _only_reader(graph, gated)
        linear = reader is not None and type(reader.operation) in (_L.Conv2D, _L.DepthwiseConv2D)
        if linear and id(reader.operation) in once and id(reader.operation) not in edits:
            edits[id(node.operation)] = edit
            edits[id(reader.operation)] = Edit("takes the factor 1/6", scale=_SIXTH)
    return edits


def _without_sixth(node: Node) -> Edit | None:
    """Returns the edit that makes a hard sigmoid six times as large; None for what is none."""
    op, said = node.operation, "is relu6(x + 3)"
    if type(op).__name__ == "Multiply" and not isinstance(op, keras.layers.Layer):
        factors = [x for x in keras.tree.flatten((node.args, node.kwargs)) if np.isscalar(x)]
        if len(node.inputs) == 1 and len(factors) == 1 and np.isclose(factors[0], _SIXTH):
            return Edit("goes", dropped=True)
    if getattr(op, "activation", None) is keras.activations.hard_sigmoid:
        after = [
            _L.Rescaling(1.0, 3.0, name=f"{op.name}_shift"),
            _L.ReLU(6.0, name=f"{op.name}_gate"),
        ]
        if type(op) is _L.Activation:
            return Edit(said, dropped=True, after=after)
        if type(op) is _L.Conv2D:
            return Edit(said, config={"activation": None}, after=after)
    return None


def _nodes(graph: Graph, once: set[int], *kinds: type[keras.layers.Layer]) -> Iterator[Node]:
    """Yields the calls of layers of these classes; a subclass may compute something else."""
    for node in graph.nodes:
        if type(node.operation) in kinds and id(node.operation) in once:
            yield node


def _only_reader(graph: Graph, node: Node) -> Node | None:
    """Returns the one call that reads what a call returns, if there is no other use of it."""
    tensor = node.outputs[0]
    readers = [x for x in graph.nodes if any(y is tensor for y in x.inputs)]
    if len(readers) != 1 or any(x is tensor for x in graph.outputs):
        return None
    return readers[0]


def _by(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))


ALL = (poolings, heads, paddings, hard_sigmoids)
