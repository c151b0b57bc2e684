"""ThiNet: channels whose removal changes the layer that reads them least (Luo et al. 2017).

arXiv 1707.06342. The output of the reading layer is a sum of one part a channel. Greedily, the
channel goes whose part makes the squared norm of all removed parts the least:

    argmin_c  || sum over removed d of x_d W_d + x_c W_c ||^2

The norm is over all outputs, positions and calibration examples (the authors sample 10 of each
image), as a share of the norm of the whole output, so that several readers of a channel compare. A
channel's score is this error when it goes; where the next one takes it down again, it counts as
what it was, so that one sort gives the order of removal.

The channels that stay are then scaled by one factor each, the least squares solution for the
output before.
"""

from collections.abc import Callable

import numpy as np

from tfprune import linalg
from tfprune.criteria.sensitivity import _contributions

GRANULARITIES = ("channel",)
SIDE = "read"


def score(
    weight: np.ndarray, gram: np.ndarray, unroll: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns the share of the output's energy that is lost when a channel goes, (channels,)."""
    products = _contributions.products(weight, gram, unroll)
    errors = removal_errors(products)
    whole = products.sum()
    return errors / whole if whole > 0 else errors


def removal_errors(products: np.ndarray) -> np.ndarray:
    """Returns the error after each unit's removal in greedy order, (units,), never falling."""
    increments = np.diag(products).copy()
    errors = np.empty(len(products))
    error = highest = 0.0
    for _ in errors:
        unit = np.argmin(increments)
        error += increments[unit]
        # A little more than the one before it: equals would be sorted by position.
        highest = errors[unit] = max(error, highest * (1 + 1e-9))
        increments += 2 * products[unit]
        increments[unit] = np.inf
    return errors


def correct(weight: np.ndarray, mask: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Returns the weights times one factor an input channel: the nearest to the output before."""
    rows, keep = (linalg.matrix(array, len(gram)) for array in (weight, mask))
    rows = rows * keep.any(axis=1, keepdims=True)  # outputs that go have no say
    groups, inputs = len(gram), weight.shape[-2]
    blocks = (gram * (rows @ rows.swapaxes(1, 2))).reshape(groups, -1, inputs, gram.shape[1])
    blocks = blocks.sum(axis=1).reshape(groups, inputs, -1, inputs).sum(axis=2)
    stays = keep.any(axis=2).reshape(groups, -1, inputs).any(axis=1)[..., None]
    factors = linalg.least_squares(np.ones(stays.shape), stays, blocks)
    factors = np.tile(factors, (1, gram.shape[1] // inputs, 1))
    return np.where(mask, linalg.unmatrix(rows * factors, weight.shape), 0.0)
