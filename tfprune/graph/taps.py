"""Where a kernel multiplies: what goes in, what comes out before the activation, as matrices.

A convolution is a matrix product once its input is laid out in patches. Seen so, all layers whose
output is linear in their kernel share one form, x @ w: (positions, rows) @ (rows, outputs), once a
group. `rows` run as in the kernel's canonical layout (*spatial, inputs).
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from tfprune.graph import trace as tracing
from tfprune.graph.kernels import Kernel

# Takes a kernel, what its layer was called with, and its output before the activation, and
# returns the output to go on with.
See = Callable[[Kernel, tf.Tensor, tf.Tensor], tf.Tensor]

_L = keras.layers
_CONVOLUTIONS = (_L.Conv1D, _L.Conv2D, _L.Conv3D)
_DEPTHWISE = (_L.DepthwiseConv1D, _L.DepthwiseConv2D)
_LINEAR = (_L.Dense, _L.EinsumDense, *_CONVOLUTIONS, *_DEPTHWISE)


def refuses(kernel: Kernel) -> str:
    """Returns why a kernel is not seen as a matrix, or an empty string."""
    layer = kernel.layer
    base = next((c for c in _LINEAR if isinstance(layer, c)), None)
    if base is None or type(layer).call is not base.call:
        return f"what a {type(layer).__name__} layer multiplies can't be seen"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "its data_format is channels_first"
    if base is _L.EinsumDense:
        operands, _, result = layer.equation.replace(" ", "").partition("->")
        first, weights = operands.split(",")
        if set(first) & set(weights) & set(result):
            return f"its equation {layer.equation} has an own matrix for each place of an axis"
    return ""


@contextlib.contextmanager
def tapped(kernels: Sequence[Kernel], see: See) -> Iterator[None]:
    """Has `see(kernel, x, z) -> z` called wherever one of these kernels is used in the block.

    `x` is what the layer is called with, `z` its output before the activation.
    """
    by_layer = {id(x.layer): x for x in kernels if not refuses(x)}

    def around(call: Callable, layer: keras.layers.Layer, args: tuple, kwargs: dict) -> object:
        kernel = by_layer.get(id(layer))
        if kernel is None:
            return call(layer, *args, **kwargs)
        x = keras.tree.flatten((args, kwargs))[0]
        activation = layer.activation or keras.activations.linear
        layer.activation = lambda z: activation(see(kernel, x, z))
        try:
            return call(layer, *args, **kwargs)
        finally:
            layer.activation = activation

    with tracing.calls(around):
        yield


def groups(kernel: Kernel) -> int:
    """Returns in how many groups a kernel's channels are multiplied apart, 1 mostly."""
    if isinstance(kernel.layer, _DEPTHWISE):
        return kernel.shape[-1] // kernel.layer.depth_multiplier
    return getattr(kernel.layer, "groups", 1)


def matrix(kernel: Kernel, array: tf.Tensor) -> tf.Tensor:
    """Returns an array of canonical shape, (..., *kernel.shape), as (..., groups, rows, outputs).

    It takes NumPy arrays as well.
    """
    n, count = groups(kernel), math.prod(kernel.shape[:-1])
    lead = _sizes(array.shape[: len(array.shape) - len(kernel.shape)])
    split = keras.ops.reshape(array, (*lead, count, n, kernel.shape[-1] // n))
    return keras.ops.swapaxes(split, -3, -2)


def unmatrix(kernel: Kernel, array: tf.Tensor) -> tf.Tensor:
    """Returns an array (..., groups, rows, outputs) in canonical shape, (..., *kernel.shape)."""
    lead = _sizes(array.shape[:-3])
    return keras.ops.reshape(keras.ops.swapaxes(array, -3, -2), (*lead, *kernel.shape))


def _sizes(shape: Sequence[int | None]) -> tuple[int, ...]:
    """Returns a shape to `reshape` to; a number of examples that is open is the one -1."""
    return tuple(-1 if size is None else size for size in shape)


def windows(kernel: Kernel, x: tf.Tensor) -> list[tf.Tensor]:
    """Returns what meets each spatial place of a kernel, (n, positions, groups, inputs) each."""
    layer = kernel.layer
    x = tf.cast(x, tf.float32)
    if isinstance(layer, _L.EinsumDense):
        return [_einsum(kernel, x, 0)]
    if isinstance(layer, _L.Dense):
        return [_flat(x, 1)]
    return [_flat(part, groups(kernel)) for part in _shifted(layer, x)]


def patches(kernel: Kernel, x: tf.Tensor) -> tf.Tensor:
    """Returns the input as a matrix, (n, positions, groups, rows)."""
    return tf.concat(windows(kernel, x), axis=-1)


def outputs(kernel: Kernel, z: tf.Tensor) -> tf.Tensor:
    """Returns the layer's output as a matrix, (n, positions, groups, outputs of one)."""
    z = tf.cast(z, tf.float32)
    if isinstance(kernel.layer, _L.EinsumDense):
        return _einsum(kernel, z, -1)
    return _flat(z, groups(kernel))


def _flat(x: tf.Tensor, n: int) -> tf.Tensor:
    """Returns (n, *positions, channels) as (n, positions, groups, channels of one)."""
    sizes = tf.shape(x)
    return tf.reshape(x, (sizes[0], tf.reduce_prod(sizes[1:-1]), n, x.shape[-1] // n))


def _shifted(layer: keras.layers.Layer, x: tf.Tensor) -> list[tf.Tensor]:
    """Returns one strided slice of the padded input for each place of a convolution's window."""
    rank = len(x.shape) - 2
    sizes, strides, rates = layer.kernel_size, layer.strides, layer.dilation_rate
    strides, rates = (tuple(v) * rank if len(v) < rank else tuple(v) for v in (strides, rates))
    pads, counts, lengths = [], [], []
    for axis in range(rank):
        size, stride = tf.shape(x)[axis + 1], strides[axis]
        reach = (sizes[axis] - 1) * rates[axis]
        if layer.padding == "same":
            whole = tf.maximum(((size + stride - 1) // stride - 1) * stride + reach + 1 - size, 0)
            before = whole // 2
        else:
            whole = before = reach if layer.padding == "causal" else 0
        counts.append((size + whole - reach - 1) // stride + 1)
        lengths.append((counts[-1] + reach // stride) * stride)
        pads.append((before, tf.maximum(lengths[-1] - before - size, 0)))
    padded = tf.pad(x, [(0, 0), *pads, (0, 0)])[(slice(None), *(slice(n) for n in lengths))]
    # An axis is parted by its stride first, since slices with steps are ten times as slow.
    parts = [(n // s, s) if s > 1 else (n,) for n, s in zip(lengths, strides, strict=True)]
    parted = tf.reshape(padded, [tf.shape(x)[0], *sum(parts, ()), x.shape[-1]])
    result = []
    for place in _places(sizes):
        cut = [slice(None)]
        for i, rate, stride, count in zip(place, rates, strides, counts, strict=True):
            start, phase = divmod(i * rate, stride)
            cut += [slice(start, start + count), *([phase] if stride > 1 else [])]
        result.append(parted[tuple(cut)])
    return result


def _places(sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    if not sizes:
        yield ()
        return
    for first in range(sizes[0]):
        for rest in _places(sizes[1:]):
            yield (first, *rest)


def _einsum(kernel: Kernel, array: tf.Tensor, which: int) -> tf.Tensor:
    """Returns an EinsumDense's input (`which` 0) or output (-1), (n, positions, 1, channels)."""
    operands, _, result = kernel.layer.equation.replace(" ", "").partition("->")
    first, weights = operands.split(",")
    labels = first if which == 0 else result
    missing = len(array.shape) - len(labels.replace("...", ""))
    unused = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in kernel.layer.equation]
    labels = labels.replace("...", "".join(unused[:missing]))
    own = [c for c in weights if c in labels]
    free = [c for c in labels if c not in weights]
    ordered = tf.transpose(array, [labels.index(c) for c in (*free, *own)])
    sizes = tf.shape(ordered)
    channels = math.prod(kernel.layer.kernel.shape[weights.index(c)] for c in own)
    return tf.reshape(ordered, (sizes[0], tf.reduce_prod(sizes[1 : len(free)]), 1, channels))
