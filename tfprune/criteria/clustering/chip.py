"""Independence of a channel from the others of its layer (CHIP, Sui et al. 2021, 2110.13981).

With A the feature maps of one example as a matrix (channels, positions), it is the mean over
examples of how much the nuclear norm falls without the channel:

    ||A||_* - ||A without row i||_*

A map that the others add up to has little, a weak one too. All copies of a channel have the same
score, which knows nothing of what else goes.

Where there is one position, as in dense layers, A is a vector, its nuclear norm the length: what is
left is how much of the length is the unit's own, about a_i^2 / (2 |a|), and says nothing of others.
"""

import numpy as np

GRANULARITIES = ("filter", "channel")
SIDE = "made"  # a feature map belongs to what a kernel makes


def score(
    weight: np.ndarray, output_independence: np.ndarray, *, examples: int = 640
) -> np.ndarray:
    """Returns the mean independence of the weight's output channel, one a weight.

    Args:
      weight: the kernel.
      output_independence: of its channels.
      examples: over how many of the calibration data; the authors take five batches of 128.
    """
    del examples  # the statistic's
    return np.broadcast_to(output_independence, weight.shape)
