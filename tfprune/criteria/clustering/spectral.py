"""Spectral clustering of the units of a layer, as in SCSP (Zhuo et al. 2018, arXiv 1806.05320).

The partition is by k-means in the space of the first k eigenvectors of the normalised Laplacian of

    exp(-gamma ||x_i - x_j||^2)

The authors keep whole groups, those that matter, and let training choose them over a few epochs.
Here, as for `kmeans`, the unit nearest to the centroid of each cluster stays, and the number of
clusters follows the target, see `_ladder`.
"""

import numpy as np
from sklearn.cluster import SpectralClustering
from sklearn.metrics.pairwise import euclidean_distances

from tfprune.criteria.clustering import _ladder, _order

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True


def score(
    units: np.ndarray,
    rng: np.random.Generator,
    *,
    clusters: int | float | str | None = None,
    gamma: float | None = None,
) -> np.ndarray:
    """Returns the distance to the nearest survivor when a unit goes, never falling, (n_units,).

    Args:
      units: (n_units, size).
      rng: for the first centroids.
      clusters: as for `kmeans`.
      gamma: of the affinities; 1 / the mean squared distance of a layer's distinct units if None.

    Raises:
      ValueError: for a number of clusters as for `kmeans`, or a gamma not above 0.
    """
    _order.positive(gamma=gamma)
    seed = int(rng.integers(2**31))

    def partition(points: np.ndarray, k: int) -> np.ndarray:
        squares = euclidean_distances(points, squared=True)
        affinity = np.exp(-squares * (gamma or 1 / (squares.mean() or 1.0)))
        method = SpectralClustering(k, affinity="precomputed", n_init=1, random_state=seed)
        return method.fit(affinity).labels_

    return _ladder.scores(units, partition, clusters=clusters)
