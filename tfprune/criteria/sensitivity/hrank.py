"""Rank of a channel's feature maps, the mean over examples (HRank, Lin et al. 2020, 2002.10179).

A map of low rank holds little information, and its rank hardly depends on the examples: the
authors, and the default, take 500. Maps that are no images, such as outputs of dense layers, have
a rank of 0 or 1: the share of examples on which they are active.
"""

import numpy as np

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(weight: np.ndarray, output_rank: np.ndarray, *, examples: int = 500) -> np.ndarray:
    """Returns the mean rank of the weight's output channel, one a weight.

    Args:
      weight: the kernel.
      output_rank: of its channels.
      examples: over how many of the calibration data.
    """
    del examples  # the statistic's
    return np.broadcast_to(output_rank, weight.shape)
