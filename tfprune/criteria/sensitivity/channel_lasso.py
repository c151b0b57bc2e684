"""Channel pruning by LASSO on the layer that reads the channels (He, Zhang & Sun 2017, 1707.06168).

The output Y of the reading layer is a sum of one part a channel, x_c W_c. Of

    min over b  1/2 || Y - sum of b_c x_c W_c ||^2 + penalty |b|_1

the solution has the more zeros the higher the penalty; the authors raise it until as many channels
are left as wanted. The score is the penalty above which a channel's coefficient is zero, from the
whole path at once (LARS, Efron et al. 2004), as a share of the norm of Y, so that several readers
of a channel compare. The weights that read the channels that stay become the least squares solution
for Y. All outputs, positions and calibration examples count, where the authors sample.
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
    """Returns the highest penalty at which each channel has a coefficient, (channels,)."""
    products = _contributions.products(weight, gram, unroll)
    penalties = entries(products)
    whole = products.sum()
    return penalties / whole if whole > 0 else penalties


def entries(products: np.ndarray) -> np.ndarray:
    """Returns the penalty at which each coefficient leaves zero, (units,); 0 if it never does."""
    from sklearn.linear_model import lars_path_gram

    penalties, _, coefficients = lars_path_gram(
        products.sum(axis=1),
        # Channels that are copies of each other would end the path.
        linalg.damped(products, damping=1e-6),
        n_samples=1,
        max_iter=10 * len(products),
        method="lasso",
    )
    active = coefficients[:, 1:] != 0
    return np.where(active.any(axis=1), penalties[active.argmax(axis=1)], 0.0)


def correct(weight: np.ndarray, mask: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Returns the weights of the channels that stay: the nearest to the output before."""
    return linalg.refit(weight, mask, gram)
