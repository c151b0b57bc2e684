"""Connection sensitivity: |dL/dc| of a gate c on a unit, at c = 1, which is |sum of w g| over it.

SNIP (Lee et al. 2018, arXiv 1810.02340), single-shot pruning at initialisation, where it is |w g|
of a single weight. The paper divides by the sum over the whole network, which changes no rank and
is left out.
"""

from collections.abc import Callable

import numpy as np


def score(
    weight: np.ndarray, grad: np.ndarray, unroll: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns |sum of w g| of each unit."""
    return np.abs(unroll(weight * grad).sum(axis=1))
