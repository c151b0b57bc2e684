"""Cluster pruning (CUP, Duggal et al. 2019, arXiv 1911.08630): Ward's tree, one global threshold.

A channel's features are the norms of its two-dimensional kernels, of those that make it and of
those that read it; the tree is Ward's, of their Euclidean distances; of each cluster the channel
with the largest norm of features stays. A channel scores the height at which it is absorbed.
Layers of similar filters have low trees, so that one threshold for all, which allocation "global"
finds for the target, prunes them more: a non-uniform allocation.

A filter by itself has no readers: at granularity "filter" the features are the incoming norms
alone. The authors take the weights of dense layers with their signs, here they are norms too.
"""

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from tfprune.criteria.clustering import _tree

GRANULARITIES = ("filter", "channel")
JOINT = True
COMPARABLE = True


def score(kernel_norms: np.ndarray, *, threshold: float | None = None) -> np.ndarray:
    """Returns the height in Ward's tree at which a unit is absorbed, (n_units,).

    Args:
      kernel_norms: (n_units, kernels).
      threshold: where scores are 0: all but the representatives at this height are below.

    Raises:
      ValueError: for a threshold not above 0.
    """
    scores = _tree.scores(
        kernel_norms,
        lambda x: (euclidean_distances(x), np.linalg.norm(x, axis=1)),
        linkage="ward",
    )
    return _tree.beyond(scores, threshold=threshold)
