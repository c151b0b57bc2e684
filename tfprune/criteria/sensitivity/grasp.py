"""Gradient signal preservation, w (H g): what keeps the gradient flow |g|^2 high.

GraSP (Wang et al. 2020, arXiv 2002.07376), at initialisation. Without a weight the flow changes by
S = -2 w (H g) to first order. The paper prunes the weights of highest S, which leave the flow
higher or reduce it least, so that the score is w (H g) without its factor. It divides the outputs
by a temperature of 200 before the softmax, which a `loss` may do. Over a larger unit the mean is
taken, which is the change without the whole unit for each of its weights.
"""

import numpy as np


def score(weight: np.ndarray, hessian_grad: np.ndarray) -> np.ndarray:
    """Returns w (H g), one a weight."""
    return weight * hessian_grad
