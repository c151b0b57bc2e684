"""The plan where units are parts of single kernels: weights, blocks, filters."""

import dataclasses
import logging
from collections.abc import Sequence

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, granularity, statistics, targets
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import macs, norms
from tfprune.planning.recipe import Plan, Recipe, Scorer, Scores
from tfprune.planning.trial import Trial

log = logging.getLogger("tfprune")


def bind(recipe: Recipe, model: keras.Model, calibration: Calibration) -> "KernelPlan":
    """Returns the plan; see `Recipe.bind`."""
    everything, skipped = k.find(model)
    shielded = k.protected(everything, recipe.protect)
    norm = None
    if "bn_scale" in criteria.needs(recipe.criterion):  # the model has to be traced for it
        norm = norms.following(model, everything)
    chosen = []
    for kernel, is_shielded in zip(everything, shielded, strict=True):
        if reason := "protected" if is_shielded else _refusal(recipe, kernel, norm):
            skipped.append(k.Skipped(kernel.name, reason))
            log.info("%s is not pruned: %s", kernel.name, reason)
        else:
            chosen.append(kernel)
    if not chosen:
        raise recipe.nothing(model, skipped)
    plan = KernelPlan(recipe, model, calibration, chosen, skipped)
    return plan if recipe.target is None else _budgeted(plan, recipe.target, everything)


def _refusal(recipe: Recipe, kernel: k.Kernel, norm: dict | None) -> str:
    """Returns why a kernel can't be pruned in these words, or an empty string."""
    if norm is not None and (kernel.name not in norm or not norm[kernel.name].scale):
        return "no batch normalisation with a scale follows directly"
    if reason := statistics.refusal(recipe.needed, kernel):
        return reason
    if recipe.granularity.has("refuses"):
        return recipe.granularity("refuses", kernel.shape)
    return ""


def _budgeted(
    plan: "KernelPlan", target: targets.Target, everything: Sequence[k.Kernel]
) -> "KernelPlan":
    """Returns `plan` with what the target counts, and the level that meets it."""
    if target.kind == targets.REDUNDANT:
        return plan
    if target.kind == "sparsity":
        return dataclasses.replace(plan, level=target.value)
    model = plan.model
    if target.cost == "macs":
        uses, total = macs.positions(model, everything), macs.total(model)
    else:
        uses = {x.name: 1 for x in everything}
        total = k.parameters(model)
    plan = dataclasses.replace(plan, uses=uses)
    picked = {kernel.name for kernel in plan.kernels}
    gone = sum(
        (kernel.size - int(np.count_nonzero(kernel.read()))) * uses[kernel.name]
        for kernel in everything
        if kernel.name not in picked
    )
    amount = max(total - gone - target.remaining(total), 0.0)
    return dataclasses.replace(plan, level=amount / plan.cost, fixed=total - gone - plan.cost)


@dataclasses.dataclass(frozen=True)
class KernelPlan(Plan):
    """A recipe bound to the kernels of a model.

    Attributes:
      recipe, model, calibration, kernels, skipped, level, memory: as in `Plan`.
      uses: {kernel name: cost of one weight}, how often it is multiplied; 1 each if None.
      fixed: the model's cost beyond these kernels.
    """

    recipe: Recipe
    model: keras.Model
    calibration: Calibration
    kernels: list[k.Kernel]
    skipped: list[k.Skipped]
    uses: dict[str, int] | None = None
    level: float = 0.0
    fixed: float = 0.0
    memory: dict[tuple, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def cost(self) -> int:
        """The cost of the kernels when dense."""
        return sum(kernel.size * self._price(kernel) for kernel in self.kernels)

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The kernels' variables."""
        return {kernel.name: kernel.variable for kernel in self.kernels}

    def _price(self, kernel: k.Kernel) -> int:
        return 1 if self.uses is None else self.uses[kernel.name]

    def _costs(self, layer: allocations.Layer) -> np.ndarray:
        """Returns what removing each unit saves, (n_units,), one number if all save the same."""
        price, sizes = self._price(layer.kernel), layer.sizes
        if allocations.alike([sizes]):
            return np.broadcast_to(sizes[0] * price, sizes.shape)
        return sizes * price

    def masks(
        self, level: float | None = None, scores: Scores | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the masks of the kernels; see `Plan.masks`."""
        level = self.removed(level)
        recipe = self.recipe
        layers = (scores or self.scores()).layers
        costs = [self._costs(layer) for layer in layers]
        by_sparsity = recipe.target is None or recipe.target.kind in ("sparsity", targets.REDUNDANT)
        try:
            keep = allocations.keep(
                recipe.allocation,
                layers,
                costs,
                amount=level * self.cost,
                level=level if by_sparsity else None,
            )
        except allocations.Unreachable as error:
            raise self.unreachable(level, error.most, self.fixed + self.cost) from None
        return {
            kernel.name: kernel.restore(recipe.granularity("fold", units, kernel.shape))
            for kernel, units in zip(self.kernels, keep, strict=True)
        }

    def layers(self, score: Scorer) -> list[allocations.Layer]:
        """Returns the units of all kernels; see `Plan.layers`."""
        view, pairs = self.recipe.granularity, enumerate(self.kernels)
        return [self._layer(x, score([(x, view)], i)) for i, x in pairs]

    def _layer(self, kernel: k.Kernel, scores: np.ndarray) -> allocations.Layer:
        recipe = self.recipe
        locked = recipe.locked(scores)
        if recipe.granularity.has("stays"):
            stays = recipe.granularity("stays", scores)
            # What stays anyway is counted among those that are kept, equal scores or not.
            locked = stays | recipe.locked(np.where(stays, np.inf, scores))
        return allocations.Layer(
            name=kernel.name,
            kernel=kernel,
            scores=scores,
            sizes=granularity.sizes(recipe.granularity, kernel.shape),
            locked=locked,
        )

    def without(self, index: int, gone: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the mask of one kernel; see `Plan.without`."""
        kernel = self.kernels[index]
        return {kernel.name: kernel.restore(self.recipe.granularity("fold", ~gone, kernel.shape))}

    def saved(self, index: int, gone: np.ndarray) -> float:
        """Returns what these units of one kernel cost; see `Plan.saved`."""
        kernel = self.kernels[index]
        sizes = granularity.sizes(self.recipe.granularity, kernel.shape)
        return float(sizes[gone].sum() * self._price(kernel))

    def share(self, gone: Sequence[np.ndarray]) -> float:
        """Returns the share of the kernels' cost; see `Plan.share`."""
        return sum(self.saved(i, units) for i, units in enumerate(gone)) / self.cost

    def trial(self, index: int) -> Trial:
        """Returns what tries out the loss without some units of one kernel."""
        kernel, view = self.kernels[index], self.recipe.granularity
        count = len(view("unroll", np.ones(kernel.shape, bool)))

        def without(units: np.ndarray) -> dict[str, np.ndarray]:
            return {kernel.name: np.stack([view("fold", ~u, kernel.shape) for u in units])}

        return Trial(self.calibration, [kernel], count, without)
