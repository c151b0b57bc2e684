"""Geometric median (FPGM, He et al. 2019, arXiv 1811.00250): units near the middle of all go first.

    sum_j ||x_i - x_j||

over the units of a layer is least for the one nearest to their geometric median, which the others
can stand for best. As theirs, and unlike the other criteria of this family, it asks each unit by
itself: of two equal ones both score alike. A zero unit, which has no direction, scores 0 by cosine
distance.
"""

import numpy as np
from sklearn.metrics import pairwise_distances

from tfprune import registry

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True

_DISTANCES = ("l1", "l2", "cosine")


def score(units: np.ndarray, *, distance: str = "l2") -> np.ndarray:
    """Returns the sum of distances to all other units, (n_units,).

    Args:
      units: (n_units, size).
      distance: l2, l1 or cosine.

    Raises:
      ValueError: for another distance.
    """
    if distance not in _DISTANCES:
        raise registry.unknown("distance", distance, _DISTANCES)
    sums = pairwise_distances(units.astype(np.float64), metric=distance).sum(axis=1)
    return np.where(units.any(axis=1), sums, 0.0) if distance == "cosine" else sums
