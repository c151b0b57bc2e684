"""First-order change of the loss without a feature map: E|mean over positions of a dL/da|."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import taps
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs

LABELS = True

refuses = _outputs.refuses


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns the mean over examples, (outputs,); a layer's calls are added up in each.

    Where no gradient reaches the feature map behind the activation, as with a softmax that the loss
    computes itself, it is of what the activation is given.
    """
    reached: list[str] = []

    def step(x: object, y: tf.Tensor) -> list[tf.Tensor]:
        before: dict[str, list[tf.Tensor]] = {}

        def see(kernel: Kernel, inputs: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
            del inputs
            tape.watch(z)
            before.setdefault(kernel.name, []).append(z)
            return z

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([kernel.variable.value for kernel in kernels])
            with _outputs.maps(kernels) as found, taps.tapped(kernels, see):
                loss = tf.reduce_sum(calibration.losses(x, y))
        slopes, slopes_before = tape.gradient(loss, (found, before))
        changes = {}
        for kernel in kernels:
            name = kernel.name
            products = _products(found.get(name, ()), slopes.get(name, ()))
            if not products:
                products = _products(before.get(name, ()), slopes_before.get(name, ()))
                products = [_as_map(kernel, taps.outputs(kernel, x)) for x in products]
            if products:
                whole = tf.add_n([_mean(x) for x in products])
                changes[name] = tf.reduce_sum(tf.abs(whole), axis=0)
        reached[:] = changes
        return list(changes.values())

    sums, count = calibration.total(step, labels=True)
    return {name: total / count for name, total in zip(reached, sums, strict=True)}


def _products(arrays: Sequence[tf.Tensor], slopes: Sequence[tf.Tensor | None]) -> list[tf.Tensor]:
    return [a * s for a, s in zip(arrays, slopes, strict=True) if s is not None]


def _as_map(kernel: Kernel, outputs: tf.Tensor) -> tf.Tensor:
    """Returns outputs (n, positions, groups, outputs of one) as (n, positions, outputs)."""
    return tf.reshape(outputs, (*tf.unstack(tf.shape(outputs)[:2]), kernel.shape[-1]))


def _mean(array: tf.Tensor) -> tf.Tensor:
    """Returns the mean over positions, (n, outputs)."""
    return tf.reduce_mean(array, axis=list(range(1, len(array.shape) - 1)))
