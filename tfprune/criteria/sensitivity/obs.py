"""Optimal Brain Surgeon on each layer's output error (Hassibi & Stork 1993).

The error that removing the weights S of one output makes, when the others make up for it:

    w_ST ([H^-1]_SS)^-1 w_S / 2,    for a single weight w_q^2 / (2 [H^-1]_qq)

H is the damped Gram matrix of the layer's inputs, which all outputs share (L-OBS, Dong et al. 2017,
arXiv 1705.07565). A unit's score is the sum over its outputs; of a coupled channel it is what the
layers that read it lose. It is given as a share of the error without the whole kernel, since errors
of different layers, each in its own scale, can't be ranked together. The weights that stay get
OBS's update for all that go at once.
"""

from collections.abc import Callable

import numpy as np

from tfprune import linalg

SIDE = "read"


def score(
    weight: np.ndarray,
    unroll: Callable[[np.ndarray], np.ndarray],
    gram: np.ndarray,
    *,
    damping: float = linalg.DAMPING,
) -> np.ndarray:
    """Returns the share of the output's energy that each unit's removal costs, (n_units,)."""
    numbers = unroll(np.arange(1, weight.size + 1).reshape(weight.shape))  # 0 is padding
    units = np.empty(weight.size + 1, int)
    units[numbers] = np.arange(len(numbers))[:, None]
    units = units[1:].reshape(weight.shape)
    parts = (linalg.matrix(array, len(gram)) for array in (weight, units))
    losses = linalg.joint_losses(*parts, linalg.inverses(gram, damping=damping))
    return unroll(linalg.shares(losses, weight, gram, damping=damping)).sum(axis=1)


def correct(
    weight: np.ndarray, mask: np.ndarray, gram: np.ndarray, *, damping: float = linalg.DAMPING
) -> np.ndarray:
    """Returns w - [H^-1]_:S ([H^-1]_SS)^-1 w_S, S what `mask` removes of each output."""
    return linalg.refit(weight, mask, gram, damping=damping)
