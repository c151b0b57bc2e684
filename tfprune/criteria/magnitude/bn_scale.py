"""Scale of the batch normalisation that follows, |gamma|.

Network Slimming (Liu et al. 2017, arXiv 1708.06519). Every weight of a filter has the score of its
output channel. Layers that no batch normalisation follows directly are left as they are.
"""

import numpy as np

SIDE = "made"  # a scale belongs to what a kernel makes


def score(weight: np.ndarray, bn_scale: np.ndarray) -> np.ndarray:
    """Returns |gamma| of the weight's output channel, one a weight."""
    return np.broadcast_to(np.abs(bn_scale), weight.shape)
