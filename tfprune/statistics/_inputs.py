"""Sums over what goes into kernels, streamed over the calibration data."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import BATCH, Calibration
from tfprune.graph import taps
from tfprune.graph.kernels import Kernel


def summed(
    calibration: Calibration,
    kernels: Sequence[Kernel],
    value: Callable[[Kernel, tf.Tensor], tf.Tensor],
    *,
    floats: Callable[[Kernel, int], int] | None = None,
) -> dict[str, np.ndarray]:
    """Returns {kernel name: mean over the examples of `value(kernel, x)`}.

    Args:
      calibration: the model and its data.
      kernels: those to look at.
      value: takes a kernel and what its layer is called with, and returns the sum over the batch.
      floats: see `Calibration.batch_size`; without it, steps are as large as possible.
    """
    reached: list[str] = []

    def step(x: object) -> list[tf.Tensor]:
        found: dict[str, tf.Tensor] = {}

        def see(kernel: Kernel, inputs: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
            total = value(kernel, inputs)
            # A layer that is called twice counts twice.
            found[kernel.name] = found.get(kernel.name, 0.0) + total
            return z

        with taps.tapped(kernels, see):
            calibration.model(x, training=False)
        reached[:] = found
        return list(found.values())

    size = calibration.batch_size(kernels, floats) if floats else BATCH
    sums, count = calibration.total(step, batch_size=size)
    return {name: total / count for name, total in zip(reached, sums, strict=True)}


def by_weight(
    calibration: Calibration,
    kernels: Sequence[Kernel],
    function: Callable[[tf.Tensor], tf.Tensor],
) -> dict[str, np.ndarray]:
    """Returns the mean over examples of the sum over positions of f(x), in each kernel's shape."""

    def met(kernel: Kernel, x: tf.Tensor) -> tf.Tensor:
        # Summed over the batch first: the windows are then those of a single example.
        return _met(kernel, tf.reduce_sum(function(tf.cast(x, tf.float32)), axis=0, keepdims=True))

    found = summed(calibration, kernels, met)
    by_name = {kernel.name: kernel for kernel in kernels}
    return {name: by_name[name].canonical(value) for name, value in found.items()}


def _met(kernel: Kernel, x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the inputs that each weight multiplies, in the variable's shape.

    It is the gradient of the sum of all outputs, so that the layer itself does the cutting, in a
    few operations where `taps.patches` takes hundreds to trace.
    """
    layer, weights = kernel.layer, kernel.variable.value
    activation, layer.activation = layer.activation, None
    try:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            total = tf.reduce_sum(layer.call(x))
    finally:
        layer.activation = activation
    return tape.gradient(total, weights)
