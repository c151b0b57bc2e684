"""Share of a channel's activations that are not zero, 1 - APoZ (Hu et al. 2016, 1607.03250).

The average percentage of zeros is taken over the positions and examples of a channel's feature
map, behind the activation. Only activations that cut off at zero make any.
"""

import numpy as np

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(weight: np.ndarray, output_zeros: np.ndarray) -> np.ndarray:
    """Returns 1 - APoZ of the weight's output channel, one a weight."""
    return np.broadcast_to(1 - output_zeros, weight.shape)
