"""Share of zeros in the feature maps of each output channel, over positions and examples."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs

refuses = _outputs.refuses


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns the share, (outputs,)."""
    zeros = functools.partial(_outputs.over_positions, lambda a: tf.equal(a, 0))
    return _outputs.mean(calibration, kernels, zeros)
