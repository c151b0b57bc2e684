"""WoodFisher: Optimal Brain Surgeon on blocks of the empirical Fisher matrix of the loss.

Singh & Alistarh 2020 (arXiv 2004.14340): score w_q^2 / (2 [F^-1]_qq), F the blocks of
`tfprune.statistics.fisher_blocks`. The paper finds F^-1 by one Woodbury update an example, which is
the same matrix. Scores are of the loss, so that they rank layers too.

What goes of a block, S, is made up for by all that stays: -[F^-1]_:S ([F^-1]_SS)^-1 w_S. The
paper adds up the updates for single weights, -w_q / [F^-1]_qq [F^-1]_:q, which for many correlated
ones at once is no minimum of the loss's quadratic form, and costs much accuracy.
"""

import numpy as np

from tfprune import linalg
from tfprune.statistics.fisher_blocks import BLOCK, DAMPING, blocks, unblocks

GRANULARITIES = ("weight", "n_m")


def score(
    weight: np.ndarray, fisher_blocks: np.ndarray, *, block: int = BLOCK, damping: float = DAMPING
) -> np.ndarray:
    """Returns w^2 over twice the diagonal of the inverse, one a weight."""
    del block, damping
    diagonal = np.stack([np.diag(linalg.inverse(form, damping=0)) for form in fisher_blocks])
    return np.square(weight, dtype=np.float64) / (2 * unblocks(diagonal, weight.shape))


def correct(weight: np.ndarray, mask: np.ndarray, fisher_blocks: np.ndarray) -> np.ndarray:
    """Returns the weights that raise the loss's quadratic form least without those pruned."""
    size = fisher_blocks.shape[-1]
    parts = (np.asarray(blocks(array[None], size))[0][..., None] for array in (weight, mask))
    fitted = linalg.least_squares(*parts, fisher_blocks, damping=0)
    return unblocks(fitted, weight.shape)
