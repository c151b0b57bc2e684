"""Squared first-order change of the loss without a unit: E[(sum of w g over it)^2].

The gate form of Molchanov et al. 2019 (arXiv 1906.10771) for weights, filters and coupled channels,
of which each slice is a gate. As in its algorithm, g is the gradient of a mini-batch, and the
squares are averaged over mini-batches: at the end of training the gradient of all the data is near
zero and says little. Mini-batches are of 64 examples, larger ones if there are more than 1,024.
"""

from collections.abc import Callable

import numpy as np


def score(
    weight: np.ndarray, grad_batches: np.ndarray, unroll: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns the mean squared contribution of each unit."""
    contributions = np.stack([unroll(weight * grad).sum(axis=1) for grad in grad_batches])
    return np.square(contributions).sum(axis=0)
