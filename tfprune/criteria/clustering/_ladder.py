"""Fewer and fewer clusters, whatever partitions: one order of removal that serves every target.

At each rung the distinct units are partitioned anew into k clusters, k = 7/8, 3/4, ... 1/8 of the
units, then 1. Of each cluster the unit nearest to the centroid survives, among those that survived
the rungs before; a cluster of which none did has none, so that a rung may leave less than k. The
others go, the nearest to a survivor first, each with this distance as its score. The last survivor
has its norm: only zero is left to stand for it. Zeros and exact copies go before all else, and are
not clustered.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import linalg
from sklearn.metrics import pairwise_distances, silhouette_score

from tfprune import registry
from tfprune.criteria.clustering import _order

# (points, number of clusters) -> the cluster of each point.
Partition = Callable[[np.ndarray, int], np.ndarray]

_SILHOUETTE = "silhouette"


@_order.quietly()
def scores(
    units: np.ndarray, partition: Partition, *, clusters: int | float | str | None
) -> np.ndarray:
    """Returns one score a unit, (n_units,).

    Args:
      units: (n_units, size).
      partition: what clusters.
      clusters: at which rung to begin: a number of clusters, a share of the units below 1, or
        "silhouette": the rung with the best mean silhouette. The units that do not represent one
        of these clusters then score below 0. None: at 7/8, and no unit scores below 0.

    Raises:
      ValueError: for another number, or more clusters than units.
    """
    first = _number(clusters, len(units))
    kept, copies = _order.distinct(units)
    points = _rotated(units[kept])
    labels = functools.cache(functools.partial(partition, points))
    rungs = sorted({max(1, round(len(units) * i / 8)) for i in range(8)}, reverse=True)
    if clusters == _SILHOUETTE:
        first = _best(points, labels, rungs)
    if first is not None:
        rungs = [first, *(k for k in rungs if k < first)]
    alive = representatives = np.arange(len(points))
    order, heights = [*copies], [0.0] * len(copies)
    for k in rungs:
        if k < len(points):
            survivors = _nearest(points, labels(k) if k > 1 else np.zeros(len(points)), alive)
            gone = np.setdiff1d(alive, survivors)
            alive = survivors
            if len(gone):
                distance = pairwise_distances(points[gone], points[alive]).min(axis=1)
                by_distance = np.argsort(distance, kind="stable")
                order.extend(kept[gone[by_distance]])
                heights.extend(distance[by_distance])
        if k == first:
            representatives = alive
    result = _order.scores(
        [*order, *kept[alive]], [*heights, *np.linalg.norm(points[alive], axis=1)]
    )
    return result if first is None else _order.from_zero(result, kept[representatives])


def _number(clusters: int | float | str | None, units: int) -> int | None:
    """Returns a number of clusters, or None where none is given.

    Raises:
      ValueError: if it is none, or more than there are units.
    """
    if clusters is None or clusters == _SILHOUETTE:
        return None
    if isinstance(clusters, str):
        raise registry.unknown("clusters", clusters, [_SILHOUETTE])
    if isinstance(clusters, float) and 0 < clusters < 1:
        return max(1, round(units * clusters))
    if isinstance(clusters, bool) or not isinstance(clusters, int) or clusters < 1:
        raise ValueError(
            f"clusters={clusters!r}: a number of 1 or more, a share of the units below 1, "
            f"{_SILHOUETTE!r} or None is needed"
        )
    if clusters > units:
        raise ValueError(
            f"clusters={clusters} are more than its {units} units; a share, such as clusters=0.5, "
            "fits layers of any width"
        )
    return clusters


def _rotated(points: np.ndarray) -> np.ndarray:
    """Returns the points in float64, turned into no more dimensions than there are points.

    With X^T = Q R the rows of R^T are those of X in the basis Q: all distances are the same.
    """
    points = points.astype(np.float64)
    if points.shape[1] <= len(points):
        return points
    return linalg.qr(points.T, mode="r", check_finite=False)[0][: len(points)].T


def _nearest(points: np.ndarray, labels: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Returns of each cluster that has any the living point nearest to its centroid, sorted."""
    result = []
    for label in np.unique(labels[alive]):
        among = alive[labels[alive] == label]
        centroid = points[labels == label].mean(axis=0)
        result.append(among[np.linalg.norm(points[among] - centroid, axis=1).argmin()])
    return np.sort(result)


def _best(points: np.ndarray, labels: Callable[[int], np.ndarray], rungs: Sequence[int]) -> int:
    """Returns the rung with the best mean silhouette; with too few points for any, their number."""
    rungs = [k for k in rungs if 1 < k < len(points)]
    distances = pairwise_distances(points) if rungs else None
    return max(
        rungs,
        key=lambda k: silhouette_score(distances, labels(k), metric="precomputed"),
        default=len(points),
    )
