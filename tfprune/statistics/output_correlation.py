"""Pearson correlation of the feature maps of each two output channels.

Over examples and positions; those of all calls of a layer count.
"""

from collections.abc import Sequence

import numpy as np

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs, _pairs

refuses = _outputs.refuses


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns r, (outputs, outputs); all of a constant channel's is 0, its own too."""
    found = _pairs.mean(calibration, kernels, _pairs.moments)
    return {name: _correlation(sums) for name, sums in found.items()}


def _correlation(sums: np.ndarray) -> np.ndarray:
    products = sums[:-1, :-1] / sums[-1, -1]
    means = sums[-1, :-1] / sums[-1, -1]
    return _pairs.cosines(products - np.outer(means, means), sizes=np.diag(products))
