"""Gradients of the loss in kernels, and products of its Hessian with vectors."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel

# One tensor a kernel, in the variable's own shape.
Vectors = dict[Kernel, tf.Tensor]


def mean(
    calibration: Calibration, value: Callable[[object, tf.Tensor], Vectors]
) -> dict[Kernel, np.ndarray]:
    """Returns the mean over all examples of `value(x, y)`, which is a sum over a batch."""
    reached: list[Kernel] = []

    def step(x: object, y: tf.Tensor) -> list[tf.Tensor]:
        found = value(x, y)
        reached[:] = found
        return list(found.values())

    sums, count = calibration.total(step, labels=True)
    return {kernel: total / count for kernel, total in zip(reached, sums, strict=True)}


def gradients(
    calibration: Calibration, kernels: Sequence[Kernel], x: object, y: tf.Tensor
) -> Vectors:
    """Returns the gradients of the sum of the losses, of those kernels that it depends on."""
    variables = [kernel.variable.value for kernel in kernels]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        loss = tf.reduce_sum(calibration.losses(x, y))
    found = zip(kernels, tape.gradient(loss, variables), strict=True)
    # An embedding's gradient comes as the rows that are not zero.
    return {kernel: tf.convert_to_tensor(v) for kernel, v in found if v is not None}


def hessian_times(calibration: Calibration, x: object, y: tf.Tensor, vector: Vectors) -> Vectors:
    """Returns H v, H the Hessian of the sum of the losses: the gradient of gT v (Pearlmutter 1994).

    Kernels that the loss does not depend on are left out of it.
    """
    variables = [kernel.variable.value for kernel in vector]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        found = gradients(calibration, list(vector), x, y)
        if not found:
            return {}
        slope = tf.add_n([tf.reduce_sum(value * vector[k]) for k, value in found.items()])
    products = tape.gradient(slope, variables, unconnected_gradients="zero")
    pairs = zip(vector, products, strict=True)
    return {kernel: tf.convert_to_tensor(value) for kernel, value in pairs if kernel in found}
