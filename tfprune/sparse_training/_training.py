"""What a method sees of a training, and what it can do to it."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from tfprune import granularity
from tfprune import masks as attached
from tfprune.graph import kernels as k
from tfprune.planning import Plan
from tfprune.planning.recipe import Part, Scores
from tfprune.sparse_training._taps import Tap


@dataclasses.dataclass
class Training:
    """A training under a schedule.

    Attributes:
      plan: the words, bound to the model.
      taps: {variable name: tap} of a method that has them.
      origin: the optimizer's iterations at step 0.
      step: updates of the optimizer since then.
      level: what the schedule says now: the share of the cost that is to be gone.
      progress: how much of the schedule is done, from 0 to 1.
      updates: how often masks were changed before.
      per_epoch: steps of an epoch, None where that is not known.
      kept: {name: array} that the method wants to have again after a stop.
    """

    plan: Plan
    taps: dict[str, Tap] = dataclasses.field(default_factory=dict)
    origin: int = 0
    step: int = 0
    level: float = 0.0
    progress: float = 0.0
    updates: int = 0
    per_epoch: int | None = None
    kept: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def model(self) -> keras.Model:
        """The model that trains."""
        return self.plan.model

    def prune(self) -> attached.Masks:
        """Prunes to the level by the criterion; what was pruned before goes first."""
        return self.plan.apply(self.level)

    def choose(
        self, score: Callable[[k.Kernel], np.ndarray], level: float | None = None
    ) -> attached.Masks:
        """Returns the masks that keep the highest scores, whatever was pruned before.

        Args:
          score: kernel -> scores in its canonical shape, which are averaged over each unit.
          level: the share that goes, instead of the present level.
        """

        def units(parts: list[Part], index: int) -> np.ndarray:
            del index
            kernel, _ = parts[0]
            return self.by_unit(kernel, score(kernel))

        scores = Scores(self.plan.layers(units), {})
        return self.plan.masks(self.level if level is None else level, scores)

    def by_unit(self, kernel: k.Kernel, values: np.ndarray) -> np.ndarray:
        """Returns the means over each unit of values in a kernel's canonical shape, (n_units,)."""
        view = self.plan.recipe.granularity
        return view("unroll", values).sum(axis=1) / granularity.sizes(view, kernel.shape)

    def adopt(self, masks: attached.Masks) -> attached.Masks:
        """Gives the model these masks, and weights that come back what their tap kept of them."""
        attached.attach(self.model, masks)
        for tap in self.taps.values():
            tap.refresh()
        return masks

    def present(self) -> attached.Masks:
        """Returns the masks as they are now."""
        held = attached.of(self.model)
        return {name: held[name] for name in self.plan.variables}

    def mask(self, kernel: k.Kernel) -> np.ndarray:
        """Returns a kernel's present mask in canonical layout."""
        return kernel.canonical(keras.ops.convert_to_numpy(kernel.variable.constraint.mask))

    def read(self, kernel: k.Kernel, memory: str) -> np.ndarray:
        """Returns what a kernel's tap keeps under this name, in canonical layout."""
        value = keras.ops.convert_to_numpy(self.taps[kernel.name].memory[memory])
        return kernel.canonical(value) if value.ndim else value


def recall(training: Training) -> dict[str, np.ndarray]:
    """Returns what all taps keep, {place of the variable + ":" + memory name: array}."""
    return {
        name: keras.ops.convert_to_numpy(variable) for name, variable in _memories(training).items()
    }


def remember(training: Training, values: dict[str, np.ndarray]) -> None:
    """Gives the taps back what they kept."""
    for name, variable in _memories(training).items():
        variable.assign(values[name])


def _memories(training: Training) -> dict[str, keras.Variable]:
    return {
        f"{place}:{memory}": variable
        for place, tap in enumerate(training.taps.values())
        for memory, variable in tap.memory.items()
    }
