"""Mean magnitude of a channel's activations, E|a| over positions and examples.

What prunes little active channels (Polyak & Wolf 2015) and one of the criteria that Molchanov et
al. 2016 (arXiv 1611.06440) compare theirs with. The feature map is taken behind the activation.
"""

import numpy as np

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(weight: np.ndarray, output_abs: np.ndarray) -> np.ndarray:
    """Returns E|a| of the weight's output channel, one a weight."""
    return np.broadcast_to(output_abs, weight.shape)
