"""Movement, the sum of -w g over training: high where training moves a weight away from zero.

Movement pruning (Sanh et al. 2020, arXiv 2005.07683). Under `tfprune.Pruner` scores add up over the
updates of the masks, as they do in the paper over the steps of its training; what was pruned stays
so, where the paper lets it come back. In `prune` it is the -w g of each round, added up. Over a
larger unit it is averaged.
"""

import numpy as np

ACCUMULATES = True


def score(weight: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Returns -w g, one a weight."""
    return -weight * grad
