"""Mean magnitude of the feature maps of each output channel, over positions and examples."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs

refuses = _outputs.refuses


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns E|a|, (outputs,)."""
    magnitude = functools.partial(_outputs.over_positions, tf.abs)
    return _outputs.mean(calibration, kernels, magnitude)
