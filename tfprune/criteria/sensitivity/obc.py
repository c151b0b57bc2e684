"""Optimal Brain Compression: exact greedy removal in each output (Frantar & Alistarh 2022).

arXiv 2208.11580. Of each output, that is each row of the paper's weight matrix, the weight with the
least w_q^2 / (2 [H^-1]_qq) goes, one after another; weights and H^-1 are updated after each, H the
damped Gram matrix of the layer's inputs. To prune a layer, the paper then merges the rows: of their
next weights, the one goes that adds the least error. A weight is thus behind all that its row loses
before it, so that the highest increment on the way is its score, and one sort of the scores gives
that merge. In n:m granularity no more than m - n of a group go before all groups are full. Scores
are shares of the error without the whole kernel, since errors of different layers, each in its own
scale, can't be ranked together.

The updates come to the least squares solution for the weights that are left in the end, which
`correct` computes directly.
"""

import logging

import numpy as np

from tfprune import linalg

log = logging.getLogger("tfprune")

GRANULARITIES = ("weight", "n_m")


def score(
    weight: np.ndarray,
    gram: np.ndarray,
    pattern: tuple[int, int] | None,
    *,
    damping: float = linalg.DAMPING,
) -> np.ndarray:
    """Returns for each weight the highest increment of its output's error until it goes.

    It is a share of the error without the whole kernel.
    """
    log.info("one weight after another goes of a kernel of shape %s", weight.shape)
    inverses = linalg.inverses(gram, damping=damping)
    losses = linalg.greedy_losses(linalg.matrix(weight, len(gram)), inverses, pattern=pattern)
    return linalg.shares(losses, weight, gram, damping=damping)


def correct(
    weight: np.ndarray, mask: np.ndarray, gram: np.ndarray, *, damping: float = linalg.DAMPING
) -> np.ndarray:
    """Returns the weights after the updates for all that `mask` removes."""
    return linalg.refit(weight, mask, gram, damping=damping)
