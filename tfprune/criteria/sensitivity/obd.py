"""Optimal Brain Damage, the saliency |h| w^2 / 2, h the diagonal of the Hessian of the loss.

LeCun, Denker & Solla 1990. The paper takes the Levenberg-Marquardt approximation of h, which is
never negative. Hutchinson's estimate, of h itself, can be: its magnitude counts, as in AdaHessian
(Yao et al. 2020, arXiv 2006.00719). To take a negative one for nothing would prune all weights
first whose estimate happened to err that way. Over a larger unit it is averaged.
"""

import numpy as np


def score(weight: np.ndarray, hessian_diag: np.ndarray, *, probes: int = 1) -> np.ndarray:
    """Returns |h| w^2 / 2, one a weight; `probes` random vectors a batch estimate h."""
    del probes
    return np.abs(hessian_diag) * np.square(weight) / 2
