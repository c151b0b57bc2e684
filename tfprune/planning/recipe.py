"""`Recipe`: the words that say how to prune. `Plan`: the same, bound to a model."""

import abc
import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, linalg, registry, statistics, targets
from tfprune import granularity as granularities
from tfprune import masks as attached
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import norms
from tfprune.planning.trial import Trial
from tfprune.registry import Method

log = logging.getLogger("tfprune")

# A kernel, and the view of its units.
Part = tuple[k.Kernel, Method]

# (kernels that are scored as one, number of the layer) -> the units' scores.
Scorer = Callable[[Sequence[Part], int], np.ndarray]

# What becomes of the weights that stay: what the criterion says, the least change of each layer's
# output, what read a removed channel is added to its nearest, or nothing.
CORRECTIONS = ("own", "least_squares", "merge", "none")

# The words that `prune` and `Pruner` have in common.
WORDS = (
    "target",
    "criterion",
    "granularity",
    "allocation",
    "correction",
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
    correction: str
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
        correction: str = "own",
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
        if correction not in CORRECTIONS:
            raise registry.unknown("correction", str(correction), CORRECTIONS)
        recipe = cls(
            target=None if target is None else targets.parse(target),
            criterion=criteria.get(criterion),
            granularity=granularities.get(granularity),
            allocation=allocations.get(allocation),
            correction=correction,
            protect=(protect,) if isinstance(protect, str) else protect,
            min_keep=min_keep,
            max_sparsity=max_sparsity,
            round_to=round_to,
            seed=seed,
        )
        criteria.check(recipe.criterion, recipe.granularity)
        if recipe.granularity.has("refuses"):
            # Options out of range are an error before any model is seen.
            recipe.granularity("refuses", (1, 1))
        if not recipe.coupled:
            if round_to > 1:
                raise ValueError("round_to is a number of channels: it needs granularity='channel'")
            if correction == "merge":
                raise ValueError(
                    "correction='merge' adds what reads a channel to what reads another: it needs "
                    "granularity='channel'"
                )
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

    @property
    def corrects_itself(self) -> bool:
        """Whether the criterion says what the weights that stay become."""
        return self.correction == "own" and criteria.corrects(self.criterion, self.granularity)

    @property
    def needed(self) -> set[str]:
        """The inputs without which a kernel can't be scored, or corrected by the criterion."""
        wanted = criteria.needs(self.criterion)
        if self.corrects_itself:
            wanted |= criteria.needs(self.criterion, "correct")
        return wanted

    @property
    def inputs(self) -> set[str]:
        """All that scores and corrections are made from."""
        return self.needed | ({"gram"} if self.correction == "least_squares" else set())

    def _check_data(self, data: object) -> None:
        """Checks that there are calibration data if anything is made from them.

        Raises:
          ValueError: if not.
        """
        if data is None and (statistics.needs_data(self.inputs) or "trial" in self.inputs):
            what = f"criterion {self.criterion.name!r}"
            if self.correction == "least_squares":
                what = "correction 'least_squares'"
            raise ValueError(
                f"{what} is computed from data: pass data=, some hundred training examples, such "
                "as train.take(16) or (x[:1024], y[:1024])"
            )

    def bind(self, model: keras.Model, *, data: object = None, loss: object = None) -> "Plan":
        """Returns the plan for a built `model`, scored on `data` by `loss`; see `Calibration`.

        Raises:
          ValueError: if the model is not built, has nothing to prune, a pattern of `protect`
            matches nothing, channels are to be pruned and can't be followed, or MACs are asked of
            a model that leaves its input size open, or scores need data and there are none.
        """
        self._check_data(data)
        calibration = Calibration(model, data, loss=loss, seed=self.seed)
        if self.coupled:
            from tfprune.planning.channel_plan import bind
        else:
            from tfprune.planning.kernel_plan import bind
        return bind(self, model, calibration)

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


@dataclasses.dataclass(frozen=True)
class Scores:
    """The units of a plan by the weights as they are at one moment.

    Attributes:
      layers: what can be pruned, scored.
      given: {statistic: {kernel name: array}} from which they were made.
    """

    layers: list[allocations.Layer]
    given: dict[str, dict[str, np.ndarray]]


class Plan(abc.ABC):
    """A recipe bound to a model: gives the masks for any level of pruning.

    Attributes:
      recipe: the words.
      model: the model they are bound to.
      calibration: the model with the data and the loss that scores are made from.
      kernels: what may be pruned.
      skipped: what may not, and why.
      level: what the target amounts to: the share of the cost to remove.
      memory: scores that add up.
    """

    recipe: Recipe
    model: keras.Model
    calibration: Calibration
    kernels: list[k.Kernel]
    skipped: list[k.Skipped]
    level: float
    memory: dict[tuple, np.ndarray]

    @property
    @abc.abstractmethod
    def variables(self) -> dict[str, keras.Variable]:
        """{name: variable} of all that `masks` has a mask for."""

    @abc.abstractmethod
    def masks(
        self, level: float | None = None, scores: Scores | None = None
    ) -> dict[str, np.ndarray]:
        """Returns {variable name: bool mask of its shape} by the weights as they are now.

        Args:
          level: the share of the cost to remove; the target's if None.
          scores: those of `self.scores()`, which are made anew if None.

        Raises:
          ValueError: for NaN weights or scores, or a level that can't be reached; it says the
            nearest that can.
        """

    @abc.abstractmethod
    def layers(self, score: "Scorer") -> list[allocations.Layer]:
        """Returns all units, scored by `score`."""

    @abc.abstractmethod
    def without(self, index: int, gone: np.ndarray) -> dict[str, np.ndarray]:
        """Returns {variable name: bool mask of its shape} when these units of one layer go."""

    @abc.abstractmethod
    def saved(self, index: int, gone: np.ndarray) -> float:
        """Returns the cost that goes with these units of one layer, all others there."""

    @abc.abstractmethod
    def trial(self, index: int) -> Trial:
        """Returns what tries out the loss without some units of one layer."""

    @functools.cached_property
    def norm(self) -> dict[str, keras.layers.BatchNormalization]:
        """{kernel name: the batch normalisation that follows it}."""
        return norms.following(self.model, self.kernels)

    def scores(self) -> Scores:
        """Returns the units, scored by the weights as they are now.

        Raises:
          ValueError: for NaN weights, scores or statistics, and for bad calibration data.
        """
        criterion = self.recipe.criterion
        given = statistics.collect(
            self.recipe.inputs, self.calibration, self.kernels, criterion.options
        )
        held = attached.of(self.model)
        layers = self.layers(functools.partial(self._score, given, held))
        return Scores(layers, given)

    def removed(self, level: float | None) -> float:
        """Returns the share of the cost to remove: `level`, or the target's if it is None.

        Raises:
          ValueError: if that has to be found first.
        """
        if level is not None:
            return level
        if self.recipe.target is not None and self.recipe.target.found:
            raise targets.not_for_training(self.recipe.target)
        return self.level

    def redundancy(self, scores: Scores) -> float:
        """Returns the share of the cost that goes with what the criterion finds redundant.

        That are units with scores below zero.

        Raises:
          ValueError: if there are none, or only one unit of any layer is not.
        """
        redundant = [layer.scores < 0 for layer in scores.layers]
        gone = [
            units & ~layer.locked for units, layer in zip(redundant, scores.layers, strict=True)
        ]
        if not any(units.any() for units in gone):
            raise ValueError(
                f"target {self.recipe.target}: criterion {self.recipe.criterion.name!r} finds "
                "nothing redundant: give one that has a threshold or a number of clusters a higher "
                "or a smaller one, such as agglomerative(threshold=0.7) or kmeans(clusters=0.5)"
            )
        if all((~units).sum() <= 1 for units in redundant):
            raise ValueError(
                f"target {self.recipe.target}: criterion {self.recipe.criterion.name!r} keeps one "
                "unit of every layer and nothing else: lower its threshold"
            )
        return self.share(gone)

    @abc.abstractmethod
    def share(self, gone: Sequence[np.ndarray]) -> float:
        """Returns the share of the cost that goes with these units, (n_units,) a layer."""

    def check(self, level: float | None = None) -> None:
        """Checks that a level, or the target's, can be reached, without any criterion.

        Raises:
          ValueError: if it can't, or a weight is NaN.
        """
        self.masks(level, Scores(self.unscored(), {}))

    def unscored(self) -> list[allocations.Layer]:
        """Returns the units, as if all mattered alike."""

        def equal(parts: Sequence[Part], index: int) -> np.ndarray:
            del index
            kernel, view = parts[0]
            return np.zeros(len(view("unroll", kernel.read())))

        return self.layers(equal)

    def _score(self, given: dict, held: dict, parts: Sequence[Part], index: int) -> np.ndarray:
        """Returns the scores of the units that the views see in their kernels."""
        criterion, (kernel, view) = self.recipe.criterion, parts[0]
        inputs = self._inputs(criteria.needs(criterion), given, parts, index)
        scores = criteria.score(criterion, view, inputs, kernel.shape, kernel.layer.name)
        if criteria.has(criterion, "ACCUMULATES"):
            key = kernel.name, view.name, index
            scores = self.memory[key] = scores + self.memory.get(key, np.float64(0))
        if all(x.name in held for x, _ in parts):
            # What was pruned before goes first, whatever the criterion.
            held_parts = [view("unroll", x.canonical(held[x.name])) for x, view in parts]
            alive = np.any([rows.any(axis=1) for rows in held_parts], axis=0)
            below = np.nextafter(scores.min(), scores.dtype.type(-np.inf))
            scores = np.where(alive, scores, below)
        return scores

    def _inputs(
        self, wanted: set[str], given: dict, parts: Sequence[Part], index: int
    ) -> dict[str, object]:
        granularity, (kernel, view) = self.recipe.granularity, parts[0]
        local = {
            "weight": kernel.read,
            "units": lambda: _beside(view("unroll", x.read()) for x, view in parts),
            "kernel_norms": lambda: _beside(_kernel_norms(*part) for part in parts),
            "unroll": lambda: functools.partial(view, "unroll"),
            "bn_scale": lambda: keras.ops.convert_to_numpy(self.norm[kernel.name].gamma),
            # The same numbers at every call: a random mask only grows along a schedule.
            "rng": lambda: np.random.default_rng([self.recipe.seed, index]),
            "pattern": lambda: granularity("pattern") if granularity.has("pattern") else None,
            "trial": lambda: self.trial(index),
        }
        return {
            name: local[name]() if name in local else given[name][kernel.name] for name in wanted
        }

    def apply(self, level: float | None = None) -> dict[str, np.ndarray]:
        """Prunes the model: attaches masks, sets the weights that stay to what they become.

        Args:
          level: as in `masks`.

        Returns:
          The masks.

        Raises:
          ValueError: as `masks` and `scores`; the model is then unchanged.
        """
        scores = self.scores()
        new = self.masks(level, scores)
        if self.recipe.coupled:  # single weights that were pruned before stay pruned
            held = attached.of(self.model)
            new = {name: mask & held.get(name, True) for name, mask in new.items()}
        new, weights = self.corrected(new, scores)
        variables = self.variables
        for name, value in weights.items():
            variables[name].assign(value)
        attached.attach(self.model, new)
        return new

    def corrected(
        self, masks: dict[str, np.ndarray], scores: Scores
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns the masks, some of which a correction may move, and what kernels become.

        Both are {variable name: array of its shape}.
        """
        criterion = self.recipe.criterion
        own = self.recipe.corrects_itself
        if not own and self.recipe.correction != "least_squares":
            return masks, {}
        masks, weights = dict(masks), {}
        for index, kernel in enumerate(self.kernels):
            if kernel.name not in masks or masks[kernel.name].all():
                continue
            mask = kernel.canonical(masks[kernel.name])
            wanted = criteria.needs(criterion, "correct") if own else {"gram"}
            if reason := statistics.refusal(wanted, kernel):
                log.info("%s is not corrected: %s", kernel.name, reason)
                continue
            if own:
                result = self._own_correction(kernel, mask, index, scores)
            else:
                result = linalg.refit(kernel.read(), mask, scores.given["gram"][kernel.name])
            value, mask = result if isinstance(result, tuple) else (result, mask)
            if value.shape != kernel.shape or not np.isfinite(value).all():
                raise ValueError(
                    f"the correction of layer {kernel.layer.name!r} is not finite, or not of "
                    f"shape {kernel.shape}: choose correction='none'"
                )
            masks[kernel.name] = kernel.restore(mask)
            weights[kernel.name] = kernel.restore(value)
        return masks, weights

    def _own_correction(
        self, kernel: k.Kernel, mask: np.ndarray, index: int, scores: Scores
    ) -> object:
        wanted = criteria.needs(self.recipe.criterion, "correct")
        parts = [(kernel, self.recipe.granularity)]
        inputs = self._inputs(wanted, scores.given, parts, index)
        return self.recipe.criterion("correct", mask=mask, **inputs)

    def sparsity(self, masks: dict[str, np.ndarray]) -> float:
        """Returns the fraction of the kernels' weights that `masks` prune."""
        values = [masks[kernel.name] for kernel in self.kernels]
        return 1 - sum(int(m.sum()) for m in values) / sum(m.size for m in values)

    def unreachable(self, level: float, most: float, total: float) -> ValueError:
        """Returns the error for a level beyond the `most` that can be removed of a cost `total`."""
        recipe, target = self.recipe, self.recipe.target
        if target is None or target.found:
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


def _beside(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Returns arrays (n_units, size) as one."""
    parts = list(parts)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _kernel_norms(kernel: k.Kernel, view: Method) -> np.ndarray:
    """Returns the norms over the spatial axes of what the units have of a kernel, (n_units, n)."""
    weight = kernel.read()
    norms = np.zeros(kernel.shape)
    norms[(0,) * (weight.ndim - 2)] = np.sqrt(np.square(weight).sum(tuple(range(weight.ndim - 2))))
    rows = view("unroll", norms)
    return rows[:, rows.any(axis=0)]
