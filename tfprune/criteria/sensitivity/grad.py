"""Gradient magnitude, |w g| with g the gradient of the mean loss.

The global and layer-wise gradient magnitude pruning of Blalock et al. 2020 (arXiv 2003.03033):
to first order, how much the loss changes when the weight goes. Over a larger unit it is averaged.
"""

import numpy as np


def score(weight: np.ndarray, grad: np.ndarray) -> np.ndarray:
    """Returns |w g|, one a weight."""
    return np.abs(weight * grad)
