"""`Recipe`: the words that say how to prune. `Plan`: the same, bound to a model."""

import abc
import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, targets
from tfprune import granularity as granularities
from tfprune.graph import kernels as k
from tfprune.registry import Method

# The words that `prune` and `Pruner` have in common.
WORDS = (
    "target",
    "criterion",
    "granularity",
    "allocation",
    "protect",
    "min_keep",
    "max_sparsity",
    "round_to",
    "seed",
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The words that `prune` and `Pruner` share, checked as far as that goes without a model."""

    target: targets.Target | None
    criterion: Method
    granularity: Method
    allocation: Method
    protect: Sequence[str]
    min_keep: int
    max_sparsity: float
    round_to: int
    seed: int

    @classmethod
    def of(
        cls,
        target: str | targets.Target | None,
        *,
        criterion: object = "magnitude",
        granularity: object = "weight",
        allocation: object = "global",
        protect: Sequence[str] = (),
        min_keep: int = 1,
        max_sparsity: float = 1.0,
        round_to: int = 1,
        seed: int = 0,
    ) -> "Recipe":
        """Returns the recipe; raises ValueError or TypeError for a wrong word."""
        if not isinstance(min_keep, int) or min_keep < 0:
            raise ValueError(f"min_keep={min_keep!r}: a number of units, 0 or more, is needed")
        if not 0 < max_sparsity <= 1:
            raise ValueError(f"max_sparsity={max_sparsity!r}: a share above 0, up to 1, is needed")
        if not isinstance(round_to, int) or round_to < 1:
            raise ValueError(f"round_to={round_to!r}: a number of channels, 1 or more, is needed")
        method = criteria.get(criterion)
        criteria.needs(method)
        recipe = cls(
            target=None if target is None else targets.parse(target),
            criterion=method,
            granularity=granularities.get(granularity),
            allocation=allocations.get(allocation),
            protect=(protect,) if isinstance(protect, str) else protect,
            min_keep=min_keep,
            max_sparsity=max_sparsity,
            round_to=round_to,
            seed=seed,
        )
        if recipe.granularity.has("refuses"):
            # Options out of range are an error before any model is seen.
            recipe.granularity("refuses", (1, 1))
        if not recipe.coupled:
            if round_to > 1:
                raise ValueError("round_to is a number of channels: it needs granularity='channel'")
            if recipe.target and recipe.target.measured:
                raise ValueError(
                    f"target {recipe.target}: zeros change neither bytes nor latency of a dense "
                    "file; it needs granularity='channel'"
                )
        return recipe

    @property
    def coupled(self) -> bool:
        """Whether units are coupled channels and not parts of one kernel."""
        return getattr(self.granularity.definition, "COUPLED", False)

    def bind(self, model: keras.Model) -> "Plan":
        """Returns the plan for a built `model`.

        Raises:
          ValueError: if the model is not built, has nothing to prune, a pattern of `protect`
            matches nothing, channels are to be pruned and can't be followed, or MACs are asked of
            a model that leaves its input size open.
        """
        if self.coupled:
            from tfprune.planning.channel_plan import bind
        else:
            from tfprune.planning.kernel_plan import bind
        return bind(self, model)

    def locked(self, scores: np.ndarray) -> np.ndarray:
        """Returns which units of a layer stay by `min_keep` and `max_sparsity`, (n_units,)."""
        count = max(self.min_keep, math.ceil(len(scores) * (1 - self.max_sparsity) - 1e-9))
        result = np.zeros(len(scores), bool)
        if count:
            best = max(len(scores) - count, 0)
            result[np.argpartition(scores, best)[best:]] = True
        return result

    def nothing(self, model: keras.Model, skipped: Sequence[k.Skipped]) -> ValueError:
        """Returns the error for a model in which nothing can be pruned in these words."""
        reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped[:5])
        return ValueError(
            f"model {model.name!r} has nothing to prune with criterion {self.criterion.name!r} "
            f"and granularity {self.granularity.name!r} ({reasons})"
        )


class Plan(abc.ABC):
    """A recipe bound to a model: gives the masks for any level of pruning.

    Attributes:
      recipe: the words.
      model: the model they are bound to.
      kernels: what may be pruned.
      skipped: what may not, and why.
      level: what the target amounts to: the share of the cost to remove.
    """

    recipe: Recipe
    model: keras.Model
    kernels: list[k.Kernel]
    skipped: list[k.Skipped]
    level: float

    @property
    @abc.abstractmethod
    def variables(self) -> dict[str, keras.Variable]:
        """{name: variable} of all that `masks` has a mask for."""

    @abc.abstractmethod
    def masks(self, level: float | None = None) -> dict[str, np.ndarray]:
        """Returns {variable name: bool mask of its shape} by the weights as they are now.

        Args:
          level: the share of the cost to remove; the target's if None.

        Raises:
          ValueError: for NaN weights or scores, or a level that can't be reached; it says the
            nearest that can.
        """

    def unreachable(self, level: float, most: float, total: float) -> ValueError:
        """Returns the error for a level beyond the `most` that can be removed of a cost `total`."""
        recipe, target = self.recipe, self.recipe.target
        if target is None or target.measured:
            wanted, nearest = f"a share of {level:.6g} to remove", f"{most / total:.6g}"
        else:
            wanted = f"target {target}"
            nearest = f"{target.value_at(total - most, total):.6g}"
        return ValueError(
            f"{wanted} can't be met on model {self.model.name!r}: the nearest that can is "
            f"{nearest}, with granularity {recipe.granularity.name!r}, allocation "
            f"{recipe.allocation.name!r}, min_keep={recipe.min_keep}, "
            f"max_sparsity={recipe.max_sparsity:g} and {len(self.skipped)} left out "
            "(protected, frozen, or of a kind that can't be pruned so)"
        )
