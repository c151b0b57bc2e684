"""GReg: a growing penalty drives out what is to go, before it is pruned.

Growing regularisation (Wang et al. 2021, arXiv 2012.09243). GReg-1 chooses what goes at the first
update, by the criterion, and adds strength * progress * w to the gradient of just these, so that
the others take over in time; when the schedule ends they are pruned. GReg-2 first lets a penalty of
a hundredth of that (the authors' ceilings are 0.01 and 1) grow on all weights for half of the
schedule: those that matter less to the loss shrink faster, which tells more than their first size
does; then it chooses, and goes on as GReg-1.
"""

import keras
import numpy as np
from keras import ops

from tfprune import masks, registry
from tfprune.planning import Recipe
from tfprune.sparse_training import Training
from tfprune.sparse_training._taps import Tap

SCHEDULE = "constant"
_ON_ALL = 0.01


class tap(Tap):
    """Adds the penalty's gradient."""

    def __init__(self, variable: keras.Variable) -> None:
        super().__init__(variable)
        self.keep("doomed", np.zeros(variable.shape, bool), "bool")
        self.keep("strength", 0.0)

    def before(
        self, gradient: keras.KerasTensor, weight: keras.KerasTensor, rate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the gradient of loss and penalty."""
        del rate
        doomed = ops.where(self.memory["doomed"].value, weight, ops.zeros_like(weight))
        return gradient + self.memory["strength"].value * doomed


def check(recipe: Recipe, *, kind: int = 1, strength: float = 1.0) -> None:
    """Refuses a third kind, and a penalty that is none."""
    del recipe
    if kind not in (1, 2):
        raise registry.unknown("kind of growing regularisation", str(kind), ("1", "2"))
    if not 0 < strength < np.inf:
        raise ValueError(f"method 'greg': strength={strength!r}: a number above 0 is needed")


def update(training: Training, *, kind: int = 1, strength: float = 1.0) -> masks.Masks:
    """Chooses, lets the penalty grow, and prunes at the end."""
    doomed = {n: ops.convert_to_numpy(t.memory["doomed"]) for n, t in training.taps.items()}
    if training.progress >= 1 and training.updates:
        return training.adopt({name: ~goes for name, goes in doomed.items()})
    now = strength * training.progress
    if kind == 2 and training.progress < 0.5:
        doomed, now = {name: np.ones_like(goes) for name, goes in doomed.items()}, now * _ON_ALL
    elif len({bool(x) for goes in doomed.values() for x in (goes.min(), goes.max())}) == 1:
        doomed = {name: ~mask for name, mask in training.plan.masks(training.level).items()}
    for name, tap in training.taps.items():
        tap.memory["doomed"].assign(doomed[name])
        tap.memory["strength"].assign(now)
    training.level = 0.0  # nothing is pruned yet
    return training.present()
