"""K-means: of each cluster of units the one nearest to the centroid stays (MacQueen 1967).

That one filter of each cluster is enough is what e.g. Zhou et al. 2019 (arXiv 1905.11787) build on,
who also train for it. The number of clusters follows the target, see `_ladder`; it may be given, or
be the one with the best mean silhouette (Rousseeuw 1987) in each layer.

More than 2048 units are clustered by mini-batches from random centroids (Sculley 2010): seeding by
k-means++ takes most of the time where clusters are nearly as many as points.
"""

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

from tfprune.criteria.clustering import _ladder

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True

# A partition of 4096 points of 1024 dimensions takes 10 s by k-means, and 2 s so.
_MANY = 2048


def score(
    units: np.ndarray, rng: np.random.Generator, *, clusters: int | float | str | None = None
) -> np.ndarray:
    """Returns the distance to the nearest survivor when a unit goes, never falling, (n_units,).

    Args:
      units: (n_units, size).
      rng: for the first centroids.
      clusters: a number, a share of the units below 1, or "silhouette": the representatives of so
        many clusters score 0 or more, all others less. None: as many as the target leaves.

    Raises:
      ValueError: for another number, or more clusters than units.
    """
    seed = int(rng.integers(2**31))

    def partition(points: np.ndarray, k: int) -> np.ndarray:
        if len(points) > _MANY:
            method = MiniBatchKMeans(k, init="random", n_init=1, random_state=seed)
        else:
            method = KMeans(k, random_state=seed)
        return method.fit(points).labels_

    return _ladder.scores(units, partition, clusters=clusters)
