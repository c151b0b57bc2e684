"""Gradients of mini-batches: how the loss slopes on one part of the data or another."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._gradients import Vectors, gradients

LABELS = True

# Memory for so many gradients of the whole model is needed.
PARTS = 16


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns (parts, *kernel.shape), such that the sum of squares is the mean of squares.

    Each is the gradient of the mean loss of one mini-batch, times the root of its share of all
    examples. Of more than `PARTS` batches, each `PARTS`-th goes to the same mini-batch.
    """

    def step(x: object, y: tf.Tensor) -> dict[str, tf.Tensor]:
        found: Vectors = gradients(calibration, kernels, x, y)
        return {kernel.name: value for kernel, value in found.items()}

    compiled = tf.function(step, reduce_retracing=True, autograph=False)
    sums: list[dict[str, np.ndarray]] = []
    counts = np.zeros(PARTS)
    with calibration.unchanged():
        for number, (x, y) in enumerate(calibration.examples(labels=True)):
            found = {name: np.array(value) for name, value in compiled(x, y).items()}
            if number < PARTS:
                sums.append(found)
            else:
                for name, value in found.items():
                    sums[number % PARTS][name] += value
            counts[number % PARTS] += len(y)
    scales = 1 / np.sqrt(counts[: len(sums)] * counts.sum())
    return {
        kernel.name: np.stack(
            [kernel.canonical(part[kernel.name]) * s for part, s in zip(sums, scales, strict=True)]
        )
        for kernel in kernels
        if kernel.name in sums[0]
    }
