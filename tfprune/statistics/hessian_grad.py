"""Hessian of the mean loss times its gradient: where the squared gradient norm rises.

It is half the gradient of |g|^2, from two passes over the data: one for g, one for H g.
"""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._gradients import gradients, hessian_times, mean

LABELS = True


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns H g in the kernel's shape; g and H are of these kernels, all of them together."""
    gradient = mean(calibration, functools.partial(gradients, calibration, kernels))
    vector = {kernel: tf.constant(value, tf.float32) for kernel, value in gradient.items()}
    found = mean(calibration, lambda x, y: hessian_times(calibration, x, y, vector))
    return {kernel.name: kernel.canonical(value) for kernel, value in found.items()}
