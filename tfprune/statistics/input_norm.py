"""L2 norm of what each weight multiplies: the root of the mean over examples of the sum of x^2."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import taps
from tfprune.graph.kernels import Kernel
from tfprune.statistics._inputs import by_weight

refuses = taps.refuses


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns the norm in the kernel's shape, the same for all outputs of a group."""
    found = by_weight(calibration, kernels, tf.square)
    return {name: np.sqrt(value) for name, value in found.items()}
