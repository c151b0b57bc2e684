"""Orders of removal from linkage trees: all thresholds at once.

Where two clusters merge, the stronger of their representatives goes on as that of both, and the
other is absorbed: the height of this merge is its score. The units with scores above a threshold
are then exactly the representatives of the clusters of the tree that is cut there. Zero units are
in no cluster and score 0.
"""

from collections.abc import Callable

import numpy as np
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from tfprune.criteria.clustering import _order

# points -> (distances between them, what makes one stronger than another)
Measure = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def scores(
    units: np.ndarray, measure: Measure, *, linkage: str, last: float | None = None
) -> np.ndarray:
    """Returns the height at which each unit is absorbed by a stronger one, (n_units,).

    Args:
      units: (n_units, size).
      measure: distances, (n, n), and strengths, (n,); of equals the first one stays.
      linkage: a method of `scipy.cluster.hierarchy.linkage` whose heights never fall.
      last: at least what the one that is never absorbed scores, which is above all: only zero is
        left to stand for it. Its norm if None.
    """
    alive = _order.alive(units)
    points = units[alive].astype(np.float64)
    distances, strength = measure(points)
    champions = [*range(len(points))]
    heights = np.empty(len(points))
    highest = np.linalg.norm(points, axis=1).max() if last is None else last
    if len(points) > 1:
        merges = hierarchy.linkage(squareform(distances, checks=False), linkage)
        for left, right, height, _ in merges:
            pair = champions[int(left)], champions[int(right)]
            weak, strong = sorted(pair, key=lambda point: (strength[point], -point))
            heights[weak] = height
            champions.append(strong)
        highest = max(highest, merges[-1, 2] * (1 + 1e-9))
    heights[champions[-1]] = highest
    result = np.zeros(len(units))
    result[alive] = heights
    return result


def beyond(scores: np.ndarray, **option: float | None) -> np.ndarray:
    """Returns the scores, from a threshold on: what is absorbed up to it scores below 0.

    Args:
      scores: of a tree.
      option: the threshold; None leaves the scores as they are.

    Raises:
      ValueError: if it is not above 0.
    """
    _order.positive(**option)
    ((_, threshold),) = option.items()
    if threshold is None:
        return scores
    result = scores - np.nextafter(threshold, np.inf)
    result[scores.argmax()] = max(result[scores.argmax()], 0.0)  # one of a layer always stays
    return result
