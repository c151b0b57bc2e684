"""Second-order change of the loss by the empirical Fisher matrix's diagonal, E[g^2] w^2 / 2.

g are the gradients of single examples (Theis et al. 2018, arXiv 1801.05787). Over a larger unit it
is averaged; the Fisher information of a gate on the whole unit, which also counts how its weights
go together (Liu et al. 2021, arXiv 2108.00708), is what `taylor` estimates from mini-batches.
"""

import numpy as np


def score(weight: np.ndarray, grad_sq: np.ndarray) -> np.ndarray:
    """Returns E[g^2] w^2 / 2, one a weight."""
    return grad_sq * np.square(weight) / 2
