"""Movement pruning: what training moves away from zero stays.

Sanh, Wolf & Rush 2020 (arXiv 2005.07683): each weight has a score, which starts at 0 and changes
as if it were a factor of the mask (straight through), at each step by

    S <- S - dL/dW' * W

with W' the masked weights; the gradient of a pruned W is not used, but it stays what it was and
can come back. Hard movement keeps the highest scores at each update (the paper: of each layer,
allocation "uniform"). Soft movement has one threshold for all layers, which decides at every step;
here it is not a penalty on the scores that prunes more and more, as in the paper, but the threshold
that rises, so that the level is met.
"""

import keras
import numpy as np
from keras import ops

from tfprune import masks, registry
from tfprune.planning import Recipe
from tfprune.sparse_training import Training
from tfprune.sparse_training._taps import Latent

REFUSES = ("channel", "n_m")


class tap(Latent):
    """Adds to the scores at each step."""

    def __init__(self, variable: keras.Variable, *, kind: str = "hard") -> None:
        super().__init__(variable, through=False)
        self._soft = kind == "soft"
        self.keep("score", ops.zeros(variable.shape))
        self.keep("threshold", -np.inf)

    def before(
        self, gradient: keras.KerasTensor, weight: keras.KerasTensor, rate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Adds -g w; a soft threshold then decides anew."""
        del weight, rate
        self.memory["score"].value.assign_sub(gradient * self.memory["latent"].value)
        return self.masked(gradient)

    def after(self, weight: keras.KerasTensor) -> keras.KerasTensor:
        """Decides anew what is there, if soft."""
        seen = super().after(weight)
        if not self._soft:
            return seen
        self.mask.assign(self.memory["score"].value > self.memory["threshold"].value)
        return self.seen()


def check(recipe: Recipe, *, kind: str = "hard") -> None:
    """Refuses a third kind, and a soft threshold for anything but weights of all layers."""
    if kind not in ("hard", "soft"):
        raise registry.unknown("kind of movement", kind, ("hard", "soft"))
    if kind == "soft" and (recipe.granularity.name, recipe.allocation.name) != ("weight", "global"):
        raise ValueError(
            "method 'movement(soft)' has one threshold for single weights of all layers: it needs "
            "granularity='weight' and allocation='global'"
        )


def update(training: Training, *, kind: str = "hard") -> masks.Masks:
    """Keeps the highest scores."""
    del kind
    chosen = training.choose(lambda kernel: training.read(kernel, "score"))
    scores = {name: ops.convert_to_numpy(t.memory["score"]) for name, t in training.taps.items()}
    removed = [scores[name][~mask].max(initial=-np.inf) for name, mask in chosen.items()]
    for tap in training.taps.values():
        tap.memory["threshold"].assign(max(removed))
    return training.adopt(chosen)
