"""L1 norm of a unit, the sum of |w|: filters by Li et al. 2016 (arXiv 1608.08710)."""

import numpy as np


def score(units: np.ndarray) -> np.ndarray:
    """Returns the sum of |w| over each unit."""
    return np.abs(units).sum(axis=1)
