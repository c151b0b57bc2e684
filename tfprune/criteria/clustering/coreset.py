"""Coresets of a layer's units: a few that stand for all of them (Dubey et al. 2018, 1807.09810).

They replace a layer's filters by coreset representations of them; here the coreset is a subset, and
nested: the units are drawn one after the other, and the last drawn is the first to go. Two ways:

    kmeans        with probability proportional to the squared distance to the nearest of those
                  drawn before: the seeding of k-means++ (Arthur & Vassilvitskii 2007)
    sensitivity   with probability proportional to a bound on how much a unit can matter to any
                  k-means clustering (Feldman & Langberg 2011), that of lightweight coresets
                  (Bachem et al. 2018, arXiv 1702.08248):

                      q_i = 1 / 2n + ||x_i - mean||^2 / (2 sum_j ||x_j - mean||^2)

                  without replacement: by the lowest e_i / q_i, e_i exponential (Efraimidis &
                  Spirakis 2006)

A unit's score is its distance to the nearest of those drawn before it, never falling; of the first
it is the norm. Zeros, and exact copies of those drawn before, go before all else.
"""

import numpy as np
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics.pairwise import euclidean_distances

from tfprune import registry
from tfprune.criteria.clustering import _order

GRANULARITIES = ("filter", "channel")
SIDE = "made"
JOINT = True


def score(units: np.ndarray, rng: np.random.Generator, *, kind: str = "kmeans") -> np.ndarray:
    """Returns the distance to the nearest unit drawn before, never falling, (n_units,).

    Args:
      units: (n_units, size).
      rng: what draws.
      kind: kmeans or sensitivity.

    Raises:
      ValueError: for another kind.
    """
    if kind not in _DRAW:
        raise registry.unknown("kind", kind, _DRAW)
    units = units.astype(np.float64)
    drawn = _DRAW[kind](units, rng)
    new, copies = _order.distinct(units[drawn])
    points = units[drawn[new]]
    before = np.tri(len(points), k=-1, dtype=bool)
    heights = np.where(before, euclidean_distances(points), np.inf).min(axis=1)
    heights[0] = np.linalg.norm(points[0])
    return _order.scores(
        [*drawn[copies][::-1], *drawn[new][::-1]], [*(0.0 * copies), *heights[::-1]]
    )


def _kmeans(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the order in which k-means++ would seed with the units, (n_units,)."""
    seed = int(rng.integers(2**31))
    with _order.quietly():
        _, seeds = kmeans_plusplus(units, len(units), random_state=seed, n_local_trials=1)
    # Where nothing but copies is left it draws what it has drawn before.
    return np.fromiter(dict.fromkeys([*seeds, *range(len(units))]), int)


def _sensitivity(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the order in which the units are drawn by sensitivity, (n_units,)."""
    squares = np.square(units - units.mean(axis=0)).sum(axis=1)
    total = squares.sum() or 1.0
    return np.argsort(rng.exponential(size=len(units)) / (1 / len(units) + squares / total))


_DRAW = {"kmeans": _kmeans, "sensitivity": _sensitivity}
