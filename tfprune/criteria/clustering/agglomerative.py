"""Agglomerative clustering by cosine distance (Ayinde & Zurada 2018, arXiv 1802.07653).

Filters of nearly the same direction are merged, bottom up, by the average distance of clusters; of
each cluster one stays: here that of the largest norm, where they choose at random. A unit scores
the height at which a larger one absorbs it. Cosine distances compare over layers, so that
allocation "global" cuts all trees at one threshold, and "uniform" leaves each layer the same share.

Zero units, which have no direction, go first.
"""

import numpy as np
from sklearn.metrics.pairwise import cosine_distances

from tfprune import registry
from tfprune.criteria.clustering import _tree

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True
COMPARABLE = True

_LINKAGES = ("average", "complete", "single", "weighted")
# Above any cosine distance.
_LAST = 3.0


def score(
    units: np.ndarray, *, threshold: float | None = None, linkage: str = "average"
) -> np.ndarray:
    """Returns the cosine distance at which a unit is absorbed, (n_units,).

    Args:
      units: (n_units, size).
      threshold: where scores are 0: all but the representatives at this distance are below.
      linkage: the distance of two clusters: average, complete, single or weighted.

    Raises:
      ValueError: for another linkage, or a threshold not above 0.
    """
    if linkage not in _LINKAGES:
        raise registry.unknown("linkage", linkage, _LINKAGES)
    scores = _tree.scores(
        units,
        lambda x: (cosine_distances(x), np.linalg.norm(x, axis=1)),
        linkage=linkage,
        last=_LAST,
    )
    return _tree.beyond(scores, threshold=threshold)
