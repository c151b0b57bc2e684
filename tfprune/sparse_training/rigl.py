"""RigL: drops the smallest weights and grows where the loss would fall fastest.

The rigged lottery (Evci et al. 2020, arXiv 1911.11134). Every update exchanges in each kernel

    drop / 2 * (1 + cos(pi * progress))

of its weights: the lowest |w| go, and as many come, from zero, where the gradient of the loss is
highest in absolute value, which the last step had for pruned weights too. Sparsity is constant
from the first step on, unless the schedule raises it (then it is GraNet, Liu et al. 2021,
arXiv 2106.10404). The paper shares it by allocation "erk", begins with random masks and updates
every 100 steps until three quarters of the training; so does this, but that masks begin with
the criterion's lowest, since a trained model has something to lose.
"""

import math

import keras
import numpy as np
from keras import ops

from tfprune import masks
from tfprune.sparse_training import Training
from tfprune.sparse_training._rewiring import rewire
from tfprune.sparse_training._taps import Sparse

SCHEDULE = "constant"
REFUSES = ("channel", "n_m")


class tap(Sparse):
    """Notes the gradient of all weights, pruned or not."""

    def __init__(self, variable: keras.Variable) -> None:
        super().__init__(variable)
        self.keep("gradient", ops.zeros(variable.shape))

    def before(
        self, gradient: keras.KerasTensor, weight: keras.KerasTensor, rate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Notes the gradient."""
        self.memory["gradient"].value.assign(gradient)
        return super().before(gradient, weight, rate)


def update(training: Training, *, drop: float = 0.3) -> masks.Masks:
    """Exchanges the share that is due, but not before there is a gradient."""
    share = drop / 2 * (1 + math.cos(math.pi * training.progress)) if training.step else 0.0
    return rewire(training, share, lambda kernel: np.abs(training.read(kernel, "gradient")))
