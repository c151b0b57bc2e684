"""DBSCAN: of units that lie densely one stays, and all that lie alone (Ester et al. 1996).

A unit is a core point at a distance eps if at least min_samples, itself among them, are that near:
eps is above its core distance. Clusters of core points at all eps at once are the single-linkage
tree of the mutual reachability distances (DBSCAN*, Campello et al. 2013)

    max(core_i, core_j, ||x_i - x_j||)

A unit scores the height at which one with a smaller core distance absorbs it. With eps given, one
core point of each cluster stays, the densest, and all that are none. (DBSCAN also counts to a
cluster what is near to one of its core points; here it stays.) With min_samples 2, the default, two
equal units are a cluster.
"""

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from tfprune.criteria.clustering import _order, _tree

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True


def score(units: np.ndarray, *, eps: float | None = None, min_samples: int = 2) -> np.ndarray:
    """Returns the eps at which a unit is absorbed by a denser one, (n_units,).

    Args:
      units: (n_units, size).
      eps: where scores are 0: all that another core point stands for are below.
      min_samples: how many units, itself among them, make one dense; all of a smaller layer.

    Raises:
      ValueError: for an eps not above 0, or min_samples below 1.
    """
    _order.at_least(1, min_samples=min_samples)

    def reachability(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances = euclidean_distances(points)
        nearest = min(min_samples, len(points)) - 1
        core = np.partition(distances, nearest, axis=1)[:, nearest]
        return np.maximum(distances, np.maximum(core, core[:, None])), -core

    return _tree.beyond(_tree.scores(units, reachability, linkage="single"), eps=eps)
