"""L2 norm of a unit, sqrt(sum of w^2): filters by He et al. 2018 (arXiv 1808.06866)."""

import numpy as np


def score(units: np.ndarray) -> np.ndarray:
    """Returns the Euclidean norm of each unit."""
    return np.sqrt(np.square(units).sum(axis=1))
