"""Dynamic network surgery: what was pruned goes on learning, and is spliced in again.

Guo, Yao & Chen 2016 (arXiv 1608.04493): the model computes with W * T, its gradient changes all of
W, and at each update

    T = 0 where |W| < a,    T stays where a <= |W| < b,    T = 1 where b <= |W|

so that a weight pruned by mistake comes back. As in the authors' code a and b are 1 - margin and
1 + margin times one value; that value is not a multiple of the deviation of each layer's weights,
but what meets the level by the allocation.
"""

import functools

import numpy as np

from tfprune import masks
from tfprune.graph import kernels as k
from tfprune.sparse_training import Training
from tfprune.sparse_training._taps import Latent

REFUSES = ("channel", "n_m")
tap = functools.partial(Latent, through=True)


def update(training: Training, *, margin: float = 0.1) -> masks.Masks:
    """Prunes and splices to the level."""

    def score(kernel: k.Kernel) -> np.ndarray:
        size = np.abs(training.read(kernel, "latent"))
        return size / np.where(training.mask(kernel), 1 - margin, 1 + margin)

    return training.adopt(training.choose(score))
