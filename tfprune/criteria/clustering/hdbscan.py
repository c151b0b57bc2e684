"""HDBSCAN: of each cluster, of whatever density, the medoid stays, and all that is noise.

Campello et al. 2013: the most stable clusters of the tree of `dbscan`, so that no distance has to
be given. The other members of a cluster score below 0: they go first, by their distance to the
medoid, and zeros and exact copies before them. What stays scores 0 or more, and goes by the
distance to its nearest neighbour among what stays.
"""

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.metrics.pairwise import euclidean_distances

from tfprune.criteria.clustering import _order

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True


def score(
    units: np.ndarray, *, min_cluster_size: int = 2, min_samples: int | None = None
) -> np.ndarray:
    """Returns the distance to what stands for a unit when it goes, never falling, (n_units,).

    Args:
      units: (n_units, size).
      min_cluster_size: units in a cluster, at least 2.
      min_samples: how many units, itself among them, make one dense; min_cluster_size if None.
        A layer with fewer units has no clusters.

    Raises:
      ValueError: for a min_cluster_size below 2, or min_samples below 1.
    """
    if min_samples is None:
        min_samples = min_cluster_size
    _order.at_least(2, min_cluster_size=min_cluster_size)
    _order.at_least(1, min_samples=min_samples)
    kept, copies = _order.distinct(units)
    points = units[kept].astype(np.float64)
    distances = euclidean_distances(points)
    distances = np.maximum(distances, distances.T)  # up to rounding they are symmetric
    central = np.arange(len(points))
    if len(points) >= max(min_cluster_size, min_samples):
        method = HDBSCAN(min_cluster_size, min_samples=min_samples, metric="precomputed", copy=True)
        clusters = method.fit(distances)
        for label in range(clusters.labels_.max() + 1):
            members = np.flatnonzero(clusters.labels_ == label)
            sums = distances[np.ix_(members, members)] @ clusters.probabilities_[members]
            central[members] = members[sums.argmin()]
    stays = np.unique(central)
    heights = distances[np.arange(len(points)), central]
    heights[stays] = _isolation(points[stays])
    order = np.lexsort((heights, np.isin(np.arange(len(points)), stays)))
    result = _order.scores([*copies, *kept[order]], [*(0.0 * copies), *heights[order]])
    return _order.from_zero(result, kept[stays])


def _isolation(points: np.ndarray) -> np.ndarray:
    """Returns the distance of each point to the nearest other one, of a single one its norm."""
    if len(points) == 1:
        return np.linalg.norm(points, axis=1)
    distances = euclidean_distances(points)
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)
