"""Layer-adaptive magnitude: w^2 over the sum of all w^2 that are no smaller in its layer.

LAMP (Lee et al. 2021, arXiv 2010.07611): ranked globally, it finds each layer's sparsity by
itself. Over a larger unit, w^2 is the unit's sum.
"""

import numpy as np


def score(units: np.ndarray) -> np.ndarray:
    """Returns the LAMP score of each unit; equals are ordered by position."""
    return normalise(np.square(units, dtype=np.float64).sum(axis=1))


def normalise(energy: np.ndarray) -> np.ndarray:
    """Returns each entry over the sum of itself and all entries that rank above it."""
    order = np.argsort(energy, kind="stable")
    ranked = energy[order]
    surviving = np.cumsum(ranked[::-1])[::-1]
    scores = np.empty_like(ranked)
    scores[order] = np.divide(ranked, surviving, out=np.zeros_like(ranked), where=surviving > 0)
    return scores
