"""Highest similarity of a channel's feature maps to those of another channel.

Greedily, of the pair that is most alike one goes; its score is 1 - |similarity|. That is

    cosine   a . b / (|a| |b|), over examples and positions: unlike a correlation it is not centred,
             so that a channel that is merely always active is like another such one
    cka      linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414), each channel
             a matrix (examples, positions): whether two channels tell the same examples apart. What
             is where in the image does not matter: CKA is the same after any rotation of the
             positions' space, a flip for one.
"""

import numpy as np

from tfprune.criteria.clustering import _pairs

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(
    weight: np.ndarray, output_similarity: np.ndarray, *, similarity: str = "cosine"
) -> np.ndarray:
    """Returns 1 - |similarity| when the weight's output channel goes, one a weight.

    Args:
      weight: the kernel.
      output_similarity: of its channels, (outputs, outputs).
      similarity: "cosine" or "cka".
    """
    del similarity  # the statistic's
    return np.broadcast_to(_pairs.removal_distances(output_similarity), weight.shape)
