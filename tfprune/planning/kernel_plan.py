"""The plan where units are parts of single kernels: weights, blocks, filters."""

import dataclasses
import logging
from collections.abc import Sequence

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, granularity, targets
from tfprune.graph import kernels as k
from tfprune.graph import macs, norms
from tfprune.planning.recipe import Plan, Recipe

log = logging.getLogger("tfprune")


def bind(recipe: Recipe, model: keras.Model) -> "KernelPlan":
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
    plan = KernelPlan(recipe, model, chosen, skipped, norm=norm)
    return plan if recipe.target is None else _budgeted(plan, recipe.target, everything)


def _refusal(recipe: Recipe, kernel: k.Kernel, norm: dict | None) -> str:
    """Returns why a kernel can't be pruned in these words, or an empty string."""
    if norm is not None and (kernel.name not in norm or not norm[kernel.name].scale):
        return "no batch normalisation with a scale follows directly"
    if recipe.granularity.has("refuses"):
        return recipe.granularity("refuses", kernel.shape)
    return ""


def _budgeted(
    plan: "KernelPlan", target: targets.Target, everything: Sequence[k.Kernel]
) -> "KernelPlan":
    """Returns `plan` with what the target counts, and the level that meets it."""
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
      recipe, model, kernels, skipped, level: as in `Plan`.
      norm: {kernel name: batch normalisation after it}, where the criterion asks for it.
      uses: {kernel name: cost of one weight}, how often it is multiplied; 1 each if None.
      fixed: the model's cost beyond these kernels.
    """

    recipe: Recipe
    model: keras.Model
    kernels: list[k.Kernel]
    skipped: list[k.Skipped]
    norm: dict[str, keras.layers.BatchNormalization] | None = None
    uses: dict[str, int] | None = None
    level: float = 0.0
    fixed: float = 0.0

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

    def masks(self, level: float | None = None) -> dict[str, np.ndarray]:
        """Returns the masks of the kernels; see `Plan.masks`."""
        level = self.level if level is None else level
        recipe = self.recipe
        layers = [self._layer(i, kernel) for i, kernel in enumerate(self.kernels)]
        costs = [layer.sizes * self._price(layer.kernel) for layer in layers]
        by_sparsity = recipe.target is None or recipe.target.kind == "sparsity"
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

    def _layer(self, index: int, kernel: k.Kernel) -> allocations.Layer:
        recipe, weight = self.recipe, kernel.read()
        inputs = criteria.Inputs(
            weight=lambda: weight,
            units=lambda: recipe.granularity("unroll", weight),
            bn_scale=lambda: keras.ops.convert_to_numpy(self.norm[kernel.name].gamma),
            # The same numbers at every call: a random mask only grows along a schedule.
            rng=lambda: np.random.default_rng([recipe.seed, index]),
        )
        scores = criteria.score(recipe.criterion, recipe.granularity, inputs, kernel.layer.name)
        locked = recipe.locked(scores)
        if recipe.granularity.has("stays"):
            locked |= recipe.granularity("stays", scores)
        return allocations.Layer(
            kernel=kernel,
            scores=scores,
            sizes=granularity.sizes(recipe.granularity, kernel.shape),
            locked=locked,
        )
