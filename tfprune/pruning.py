"""`prune`: scores, allocation and target brought together into masks for one model."""

import dataclasses
import logging
from collections.abc import Sequence

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, granularity, masks, targets
from tfprune.graph import kernels as k
from tfprune.graph import macs, norms
from tfprune.registry import Method

log = logging.getLogger("tfprune")

# The words that `prune` and `Pruner` have in common.
WORDS = ("target", "criterion", "granularity", "allocation", "protect", "min_keep", "seed")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The words that `prune` and `Pruner` share, checked as far as that goes without a model."""

    target: targets.Target | None
    criterion: Method
    granularity: Method
    allocation: Method
    protect: Sequence[str]
    min_keep: int
    seed: int

    @classmethod
    def of(
        cls,
        target: str | targets.Target | None,
        *,
        criterion: object,
        granularity: object,
        allocation: object,
        protect: Sequence[str],
        min_keep: int,
        seed: int,
    ) -> "Recipe":
        """Returns the recipe; raises ValueError or TypeError for a wrong word."""
        if not isinstance(min_keep, int) or min_keep < 0:
            raise ValueError(f"min_keep={min_keep!r}: a number of units, 0 or more, is needed")
        method = criteria.get(criterion)
        criteria.needs(method)
        return cls(
            target=None if target is None else targets.parse(target),
            criterion=method,
            granularity=_granularity(granularity),
            allocation=allocations.get(allocation),
            protect=protect,
            min_keep=min_keep,
            seed=seed,
        )

    def bind(self, model: keras.Model) -> "Plan":
        """Returns the plan for a built `model`.

        Raises:
          ValueError: if the model is not built, has nothing to prune, a pattern of `protect`
            matches nothing, or MACs are asked of a model that leaves its input size open.
        """
        everything, skipped = k.find(model)
        shielded = k.protected(everything, self.protect)
        norm = None
        if "bn_scale" in criteria.needs(self.criterion):  # the model has to be traced for it
            norm = norms.following(model, everything)
        chosen = []
        for kernel, is_shielded in zip(everything, shielded, strict=True):
            if reason := "protected" if is_shielded else self._refusal(kernel, norm):
                skipped.append(k.Skipped(kernel.name, reason))
                log.info("%s is not pruned: %s", kernel.name, reason)
            else:
                chosen.append(kernel)
        if not chosen:
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped[:5])
            raise ValueError(
                f"model {model.name!r} has nothing to prune with criterion "
                f"{self.criterion.name!r} and granularity {self.granularity.name!r} ({reasons})"
            )
        plan = Plan(self, model, chosen, skipped, norm=norm)
        return plan if self.target is None else _budgeted(plan, self.target, everything)

    def _refusal(self, kernel: k.Kernel, norm: dict | None) -> str:
        """Returns why a kernel can't be pruned in these words, or an empty string."""
        if norm is not None and (kernel.name not in norm or not norm[kernel.name].scale):
            return "no batch normalisation with a scale follows directly"
        if self.granularity.has("refuses"):
            return self.granularity("refuses", kernel.shape)
        return ""


def _budgeted(plan: "Plan", target: targets.Target, everything: Sequence[k.Kernel]) -> "Plan":
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


def _granularity(spec: object) -> Method:
    method = granularity.get(spec)
    if method.has("refuses"):
        method("refuses", (1, 1))  # options out of range are an error before any model is seen
    return method


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe bound to a model: gives the masks for any level of pruning.

    Attributes:
      recipe: the words.
      model: the model they are bound to.
      kernels: what may be pruned.
      skipped: what may not, and why.
      norm: {kernel name: batch normalisation after it}, where the criterion asks for it.
      uses: {kernel name: cost of one weight}, how often it is multiplied; 1 each if None.
      level: the share of the kernels' cost that the target removes; a sparsity, if cost is weights.
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

    def _price(self, kernel: k.Kernel) -> int:
        return 1 if self.uses is None else self.uses[kernel.name]

    def masks(self, level: float | None = None) -> dict[str, np.ndarray]:
        """Returns {kernel name: bool mask of the variable's shape} by the weights as they are now.

        Args:
          level: the share of the cost to remove; the target's if None.

        Raises:
          ValueError: for NaN weights or scores, or a level that can't be reached; it says the
            nearest that can.
        """
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
            raise ValueError(self._unreachable(level, error.most)) from None
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
        locked = np.zeros(len(scores), bool)
        if recipe.granularity.has("stays"):
            locked |= recipe.granularity("stays", scores)
        if recipe.min_keep:
            best = max(len(scores) - recipe.min_keep, 0)
            locked[np.argpartition(scores, best)[best:]] = True
        return allocations.Layer(
            kernel=kernel,
            scores=scores,
            sizes=granularity.sizes(recipe.granularity, kernel.shape),
            locked=locked,
        )

    def _unreachable(self, level: float, most: float) -> str:
        recipe = self.recipe
        if recipe.target is None:
            wanted, nearest = f"sparsity {level:.6g}", f"{most / self.cost:.6g}"
        else:
            total = self.fixed + self.cost
            wanted = f"target {recipe.target}"
            nearest = f"{recipe.target.value_at(total - most, total):.6g}"
        return (
            f"{wanted} can't be met on model {self.model.name!r}: the nearest that can is "
            f"{nearest}, with granularity {recipe.granularity.name!r}, allocation "
            f"{recipe.allocation.name!r}, min_keep={recipe.min_keep} and {len(self.skipped)} "
            "variables left out (protected, or of a kind that can't be pruned so)"
        )


def prune(
    model: keras.Model,
    target: str | targets.Target,
    *,
    criterion: object = "magnitude",
    granularity: object = "weight",
    allocation: object = "global",
    data: object = None,
    protect: Sequence[str] = (),
    min_keep: int = 1,
    seed: int = 0,
    in_place: bool = False,
) -> keras.Model:
    """Returns a pruned copy of `model`: zeros in its kernels, and masks that keep them zero.

    Example:
      >>> pruned = tfprune.prune(model, "sparsity:0.8", allocation="erk")
      >>> pruned.fit(train, epochs=3)      # zeros stay zero
      >>> pruned.save("pruned.keras")      # a plain Keras file

    Args:
      model: a built Keras model; untouched unless `in_place`.
      target: `"sparsity:0.8"`, `"compression:10"`, `"params:0.5"` or `"macs:0.5"`, see
        `tfprune.targets`. It is met to within one unit ("uniform" rounds in each layer instead).
      criterion: how much a unit matters: a name in `tfprune.criteria`, such as `"magnitude"`, a
        function of the same shape, or a module.
      granularity: what goes together: `"weight"`, `"block(4, 1)"`, `"n_m(2, 4)"`, `"filter"`.
      allocation: how layers share it: `"global"`, `"uniform"`, `"uniform_plus"`, `"erk"`, `"lamp"`.
      data: a tf.data.Dataset of batches, or a tuple of arrays, with which batch-norm statistics
        are estimated again after pruning; they are left as they are if None.
      protect: names or glob patterns of layers to leave dense.
      min_keep: how many units each kernel keeps at least.
      seed: of random scores.
      in_place: prune `model` itself, for a model that can't be cloned.

    Returns:
      The pruned model, compiled as `model` is.

    Raises:
      TypeError, ValueError: for a wrong word, a target that can't be met, NaN weights, a model
        that is not built or can't be cloned. The model is then unchanged.
    """
    recipe = Recipe.of(
        target,
        criterion=criterion,
        granularity=granularity,
        allocation=allocation,
        protect=protect,
        min_keep=min_keep,
        seed=seed,
    )
    pruned = model if in_place else clone(model)
    plan = recipe.bind(pruned)
    masks.attach(pruned, plan.kernels, plan.masks())
    if data is not None:
        from tfprune.batchnorm import reestimate_batchnorm

        reestimate_batchnorm(pruned, data)
    return pruned


def clone(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` with its weights, masks and compilation.

    Raises:
      ValueError: for a subclassed model without a config to rebuild it from.
    """
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: call it once on data first")
    try:
        copy = keras.models.clone_model(model)
        if not copy.built:
            copy.build_from_config(model.get_build_config())
        copy.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}) can't be cloned: {error}\n"
            "Prune it itself with in_place=True, or while it trains with tfprune.Pruner, or give "
            "its class get_config() and from_config()."
        ) from error
    if held := masks.of(model):
        # A copy's paths may differ from the original's; the order of the kernels does not.
        pairs = list(zip(k.find(model)[0], k.find(copy)[0], strict=True))
        same = {new.name: held[old.name] for old, new in pairs if old.name in held}
        masks.attach(copy, [new for _, new in pairs if new.name in same], same)
    if model.compiled:
        copy.compile_from_config(model.get_compile_config())
    return copy
