"""Gradients of single examples, without a backward pass for each.

The gradient of one example's loss in a kernel is xT g: what went in, and the gradient of what came
out. Both are there after one backward pass over a batch (Goodfellow 2015, arXiv 1510.01799).
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import taps
from tfprune.graph.kernels import Kernel
from tfprune.statistics._gradients import gradients

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def per_example(
    calibration: Calibration,
    kernels: Sequence[Kernel],
    value: Callable[[Kernel, tf.Tensor], tf.Tensor],
    *,
    rank_one: Callable[[Kernel, tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
) -> tuple[dict[str, np.ndarray], int]:
    """Returns {kernel name: sum of `value` over the batches}, and the number of examples.

    Args:
      calibration: the model, its data and loss.
      kernels: those to look at. Where what goes in can't be seen (recurrent layers, say), examples
        go one by one.
      value: (kernel, gradients of a batch (n, *kernel.shape)) -> their sum of something.
      rank_one: (kernel, x (n, rows), slopes (n, outputs)) -> the same, where each gradient is the
        outer product x slopesT, since the layer has one position. It spares a large Dense layer
        the gradients themselves.
    """
    seen: list[Kernel] = []
    names: list[str] = []

    def matrices(x: object, y: tf.Tensor) -> list[tf.Tensor]:
        uses: list[tuple[Kernel, tf.Tensor, tf.Tensor]] = []
        with tf.GradientTape(watch_accessed_variables=False) as tape:

            def see(kernel: Kernel, inputs: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
                tape.watch(z)
                uses.append((kernel, inputs, z))
                return z

            with taps.tapped(kernels, see):
                loss = tf.reduce_sum(calibration.losses(x, y))
        slopes = tape.gradient(loss, [z for _, _, z in uses])
        factors: dict[Kernel, list[tuple[tf.Tensor, tf.Tensor]]] = {}
        for (kernel, inputs, _), slope in zip(uses, slopes, strict=True):
            if slope is not None:
                factors.setdefault(kernel, []).append((inputs, slope))
        seen[:] = factors
        return [reduced(kernel, pairs) for kernel, pairs in factors.items()]

    def reduced(kernel: Kernel, pairs: list[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
        inputs, slope = pairs[0]
        if rank_one and len(pairs) == 1 and _has_one_position(kernel, slope):
            rows, slope = taps.patches(kernel, inputs), taps.outputs(kernel, slope)
            found = rank_one(kernel, rows[:, 0, 0], slope[:, 0, 0])
            return tf.reshape(found, kernel.shape)
        # Of a layer that is called several times, an example's gradient is the sum.
        return value(kernel, tf.add_n([_gradient(kernel, *pair) for pair in pairs]))

    def floats(kernel: Kernel, positions: int) -> int:
        factors = positions * sum(kernel.shape[-2:])
        return factors if rank_one and positions == 1 else max(kernel.size, factors)

    def singly(x: object, y: tf.Tensor) -> list[tf.Tensor]:
        found = gradients(calibration, hidden, x, y)
        names[:] = [kernel.name for kernel in found]
        return [value(kernel, _canonical(kernel, v)[None]) for kernel, v in found.items()]

    size = calibration.batch_size(kernels, floats)
    sums, count = calibration.total(matrices, labels=True, batch_size=size)
    result = {kernel.name: total for kernel, total in zip(seen, sums, strict=True)}
    if hidden := [kernel for kernel in kernels if kernel.name not in result]:
        sums, _ = calibration.total(singly, labels=True, batch_size=1)
        result |= dict(zip(names, sums, strict=True))
    return result, count


def _has_one_position(kernel: Kernel, slope: tf.Tensor) -> bool:
    if isinstance(kernel.layer, keras.layers.EinsumDense) or taps.groups(kernel) > 1:
        return False
    return all(size == 1 for size in slope.shape[1:-1])


def _gradient(kernel: Kernel, x: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of each example, (n, *kernel.shape)."""
    if isinstance(kernel.layer, _DEPTHWISE):
        return _depthwise(kernel, x, slope)

    def by_group(array: tf.Tensor) -> tf.Tensor:
        return tf.transpose(array, (0, 2, 1, 3))

    slope = by_group(taps.outputs(kernel, slope))
    # Windows one by one: patches would be as large as all of them.
    windows = [by_group(w) for w in taps.windows(kernel, x)]
    parts = [tf.matmul(w, slope, transpose_a=True) for w in windows]
    return taps.unmatrix(kernel, tf.concat(parts, axis=-2))


def _depthwise(kernel: Kernel, x: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of each example of a depthwise convolution.

    Its channels never meet, so that the examples of a batch can be channels of one example, and
    one backward pass finds the gradient of each.
    """
    layer, n = kernel.layer, tf.shape(x)[0]
    rank = len(x.shape) - 2

    def joined(array: tf.Tensor) -> tf.Tensor:
        turned = tf.transpose(array, (*range(1, rank + 1), 0, rank + 1))
        return tf.reshape(turned, (1, *tf.unstack(tf.shape(turned)[:rank]), -1))

    *spatial, channels, multiplier = layer.kernel.shape
    weights = tf.zeros((*spatial, n * channels, multiplier), x.dtype)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(weights)
        z = keras.ops.depthwise_conv(
            joined(x),
            weights,
            strides=layer.strides,
            padding=layer.padding,
            data_format="channels_last",
            dilation_rate=layer.dilation_rate,
        )
    found = tape.gradient(z, weights, output_gradients=joined(slope))
    split = tf.reshape(found, (*spatial, 1, n, kernel.shape[-1]))
    return tf.transpose(split, (rank + 1, *range(rank + 1), rank + 2))


def _canonical(kernel: Kernel, array: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.transpose(array, sum(kernel.order, ())), kernel.shape)
