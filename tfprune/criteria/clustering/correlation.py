"""Correlation of feature maps (NoiseOut, Babaeizadeh et al. 2016, arXiv 1611.06211).

Greedily, of the pair of channels with the highest |r| one goes, r the Pearson correlation of their
feature maps over examples and positions. Its score is 1 - |r|; constant channels have 0.

What read a channel i that went is then folded into what reads a channel j that stays: with X_i the
inputs of the reading layer and W_i the weights on them,

    W_j + s W_i,   j and s those with the least || X_i W_i - s X_j W_i ||^2

Exact duplicates, and multiples, go without any change of the output.
"""

import numpy as np

from tfprune import linalg
from tfprune.criteria.clustering import _pairs

GRANULARITIES = ("filter", "channel")
CORRECTS = ("channel",)  # the layer that reads a filter is not known
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(weight: np.ndarray, output_correlation: np.ndarray) -> np.ndarray:
    """Returns 1 - |r| when the weight's output channel goes, one a weight.

    Args:
      weight: the kernel.
      output_correlation: of its channels, (outputs, outputs).
    """
    return np.broadcast_to(_pairs.removal_distances(output_correlation), weight.shape)


def correct(weight: np.ndarray, mask: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Returns the weights with those on removed inputs folded into those on kept ones."""
    return linalg.fold(weight, mask, gram)
