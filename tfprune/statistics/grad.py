"""Gradient of the mean loss over the calibration data, in the kernel's shape."""

import functools
from collections.abc import Sequence

import numpy as np

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._gradients import gradients, mean

LABELS = True


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns dL/dw, L the mean over all examples."""
    found = mean(calibration, functools.partial(gradients, calibration, kernels))
    return {kernel.name: kernel.canonical(value) for kernel, value in found.items()}
