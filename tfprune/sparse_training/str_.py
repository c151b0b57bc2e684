"""STR: soft thresholds that each layer learns.

Soft threshold weight reparameterisation (Kusupati et al. 2020, arXiv 2002.03231): the model
computes with

    sign(W) * relu(|W| - alpha)

and alpha, one a layer, is trained with the weights: for log alpha, which stays positive, the
gradient is -alpha * sum of g * sign(W) over the weights that are there. In the paper weight decay
of the thresholds decides how sparse the model becomes; here, at each update, all of them are
multiplied by the one number that meets the level, so that what is learned is how the layers share
it.
"""

import keras
import numpy as np
from keras import ops

from tfprune import masks
from tfprune.graph import kernels as k
from tfprune.planning import Recipe
from tfprune.sparse_training import Training
from tfprune.sparse_training._taps import Latent

REFUSES = ("channel", "n_m", "block", "filter")
_FIRST = 1e-6  # alike in all layers: the first update goes by magnitude alone


class tap(Latent):
    """Shrinks the weights by the threshold, and trains it."""

    def __init__(self, variable: keras.Variable) -> None:
        super().__init__(variable, through=False)
        self.keep("threshold", _FIRST)

    def seen(self) -> keras.KerasTensor:
        """Returns the shrunk weights."""
        latent = self.memory["latent"].value
        size = ops.relu(ops.absolute(latent) - self.memory["threshold"].value)
        return self.masked(ops.sign(latent) * size)

    def before(
        self, gradient: keras.KerasTensor, weight: keras.KerasTensor, rate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Moves the threshold down its gradient."""
        there = self.masked(gradient)
        threshold = self.memory["threshold"].value
        slope = -threshold * ops.sum(there * ops.sign(weight))
        threshold.assign(threshold * ops.exp(-ops.cast(rate, "float32") * slope))
        return there


def check(recipe: Recipe) -> None:
    """Refuses an allocation of its own."""
    if recipe.allocation.name != "global":
        raise ValueError(
            f"method 'str' learns how layers share the sparsity: allocation "
            f"{recipe.allocation.name!r} contradicts it; leave it at 'global'"
        )


def update(training: Training) -> masks.Masks:
    """Scales all thresholds to what meets the level."""

    def score(kernel: k.Kernel) -> np.ndarray:
        return np.abs(training.read(kernel, "latent")) / training.read(kernel, "threshold")

    chosen = training.choose(score)
    scores = {kernel.name: kernel.restore(score(kernel)) for kernel in training.plan.kernels}
    removed = max(scores[name][~mask].max(initial=0.0) for name, mask in chosen.items())
    if removed:
        for tap in training.taps.values():
            tap.memory["threshold"].assign(float(removed) * tap.memory["threshold"].value)
    return training.adopt(chosen)
