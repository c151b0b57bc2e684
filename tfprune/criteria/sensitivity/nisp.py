"""What the final responses owe to a channel, s_l = |W_(l+1)|^T s_(l+1) back from their ranking.

NISP (Neuron Importance Score Propagation, Yu et al. 2018, arXiv 1711.05908). A channel's score is
the sum over its neurons. See `tfprune.statistics.influence` for the ranking of the final responses.
"""

import numpy as np

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(weight: np.ndarray, influence: np.ndarray) -> np.ndarray:
    """Returns the importance of the weight's output channel, one a weight."""
    return np.broadcast_to(influence, weight.shape)
