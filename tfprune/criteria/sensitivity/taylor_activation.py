"""First-order change of the loss without a feature map: E|mean over positions of a dL/da|.

The criterion of Molchanov et al. 2016 (arXiv 1611.06440), for what a layer makes. As in the paper
the scores of a layer are divided by their L2 norm, without which layers don't compare.
"""

import numpy as np

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(weight: np.ndarray, output_taylor: np.ndarray) -> np.ndarray:
    """Returns the normalised score of the weight's output channel, one a weight."""
    norm = np.linalg.norm(output_taylor)
    return np.broadcast_to(output_taylor / norm if norm > 0 else output_taylor, weight.shape)
