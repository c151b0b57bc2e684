"""The plan where units are coupled channels: everything that makes, changes or reads one."""

import dataclasses
import logging
import math
from collections.abc import Callable
from types import SimpleNamespace

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, registry
from tfprune.graph import kernels as k
from tfprune.graph import macs, norms
from tfprune.graph.channels import Channels, Group, Member
from tfprune.planning.recipe import Plan, Recipe

log = logging.getLogger("tfprune")

# Multiples of a cost, and the label arrays whose numbers of kept channels multiply it.
Term = tuple[float, list[np.ndarray]]


def bind(recipe: Recipe, model: keras.Model) -> "ChannelPlan":
    """Returns the plan; see `Recipe.bind`."""
    channels = Channels(model)
    kernels = {id(x.variable): x for x in k.find(model)[0]}
    shielded = _protected(recipe, list(kernels.values()))
    norm = None
    if "bn_scale" in criteria.needs(recipe.criterion):
        norm = norms.following(model, list(kernels.values()))
    chosen, skipped = [], []
    for group in channels.groups():
        scored = _scored(group, kernels, norm)
        reason = group.frozen
        if not reason and any(id(m.slices.variable) in shielded for m in group.made):
            reason = "protected"
        if not reason and not scored:
            reason = "no batch normalisation with a scale follows directly"
        if reason:
            skipped.append(k.Skipped(group.name, reason))
            log.info("channels of %s are not pruned: %s", group.name, reason)
        else:
            chosen.append((group, scored))
    if not chosen:
        raise recipe.nothing(model, skipped)
    touched = {id(m.slices.variable) for group, _ in chosen for m in group.members}
    inside = [x for key, x in kernels.items() if key in touched]
    terms = _terms(recipe, model, channels, kernels, inside)
    plan = ChannelPlan(recipe, model, inside, skipped, 0.0, channels, chosen, norm, terms)
    target = recipe.target
    if target is None or target.measured:
        return plan
    return dataclasses.replace(plan, level=1 - target.remaining(plan.total) / plan.total)


def _protected(recipe: Recipe, kernels: list[k.Kernel]) -> set[int]:
    flags = k.protected(kernels, recipe.protect)
    return {id(x.variable) for x, flag in zip(kernels, flags, strict=True) if flag}


def _scored(group: Group, kernels: dict[int, k.Kernel], norm: dict | None) -> list[Member]:
    """Returns the members whose slices are scored: kernels, what makes the channels first."""
    order = {"out": 0, "through": 1, "in": 2}
    members = sorted(group.members, key=lambda m: order[m.slices.role])
    members = [m for m in members if id(m.slices.variable) in kernels]
    if norm is None:
        return members
    # A scale belongs to what a kernel makes.
    names = {m: kernels[id(m.slices.variable)].name for m in members if m.slices.role != "in"}
    return [m for m, name in names.items() if name in norm and norm[name].scale]


def _terms(
    recipe: Recipe,
    model: keras.Model,
    channels: Channels,
    kernels: dict[int, k.Kernel],
    inside: list[k.Kernel],
) -> list[Term]:
    """Returns what the target counts, as a sum of products of kept channels."""
    target = recipe.target

    def term(variable: keras.Variable, times: float) -> Term:
        labels = [channels.slices.get((id(variable), a)) for a in range(len(variable.shape))]
        free = [x.labels for x in labels if x is not None]
        return times * math.prod(variable.shape) / math.prod(len(x) for x in free), free

    if target is not None and target.cost == "macs":
        everything = list(kernels.values())
        uses, attention = macs.parts(model, everything)
        heads = {id(op): labels for op, labels in channels.heads}
        return [
            *(term(x.variable, uses[x.name]) for x in everything),
            *((n / len(heads[id(op)]), [heads[id(op)]]) for op, n in attention if id(op) in heads),
            *((n, []) for op, n in attention if id(op) not in heads),
        ]
    if target is None or target.kind == "sparsity":
        return [term(x.variable, 1) for x in inside]
    return [term(w, 1) for w in k.counted(model)]


@dataclasses.dataclass(frozen=True)
class ChannelPlan(Plan):
    """A recipe bound to the groups of coupled channels of a model.

    Attributes:
      recipe, model, kernels, skipped, level: as in `Plan`.
      channels: the labels.
      groups: what may be pruned, and of each the members that are scored.
      norm: {kernel name: batch normalisation after it}, where the criterion asks for it.
      terms: what the cost is made of.
    """

    recipe: Recipe
    model: keras.Model
    kernels: list[k.Kernel]
    skipped: list[k.Skipped]
    level: float
    channels: Channels
    groups: list[tuple[Group, list[Member]]]
    norm: dict[str, keras.layers.BatchNormalization] | None
    terms: list[Term]

    @property
    def total(self) -> float:
        """The whole cost before pruning."""
        return self._cost(np.zeros(len(self.channels.labels), bool))

    def _cost(self, gone: np.ndarray) -> float:
        return sum(
            times * math.prod(len(x) - np.count_nonzero(gone[x]) for x in labels)
            for times, labels in self.terms
        )

    def masks(self, level: float | None = None) -> dict[str, np.ndarray]:
        """Returns masks of all variables that carry the channels; see `Plan.masks`."""
        return self._fold(self.gone(level))

    def gone(self, level: float | None = None) -> np.ndarray:
        """Returns for each label whether its channel goes, (labels,)."""
        target, total = self.recipe.target, self.total
        if level is None:
            if target.measured:
                raise ValueError(
                    f"target {target} has to be measured, which only tfprune.prune does: "
                    "prune, shrink, and train the smaller model"
                )
            level = self.level
        try:
            return self._cut(total * (1 - level))
        except allocations.Unreachable as error:
            raise self.unreachable(level, error.most, total) from None

    @property
    def most(self) -> float:
        """The highest level that can be reached."""
        try:
            self._cut(-math.inf)
        except allocations.Unreachable as error:
            return error.most / self.total
        return 1.0

    def _cut(self, goal: float) -> np.ndarray:
        """Returns which labels go so that a cost of `goal` is left."""
        keep = allocations.cut(
            self.recipe.allocation,
            [self.layer(i) for i in range(len(self.groups))],
            lambda keep: self._cost(self._labels(keep)),
            goal,
            round_to=self.recipe.round_to,
        )
        return self._labels(keep)

    def _labels(self, keep: list[np.ndarray]) -> np.ndarray:
        roots = self._roots
        gone = np.zeros(len(roots), bool)
        for (group, _), stays in zip(self.groups, keep, strict=True):
            gone[group.labels] = ~stays
        return gone[roots]

    @property
    def _roots(self) -> np.ndarray:
        return self.channels.labels.roots(np.arange(len(self.channels.labels)))

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The trainable variables that carry the channels."""
        touched = {id(m.slices.variable) for group, _ in self.groups for m in group.members}
        named = k.named(self.model).items()
        return {n: w for n, w in named if id(w) in touched and w.trainable}

    def _fold(self, gone: np.ndarray) -> dict[str, np.ndarray]:
        keep: dict[int, dict[int, np.ndarray]] = {}
        for (variable, axis), slices in self.channels.slices.items():
            keep.setdefault(variable, {})[axis] = ~gone[slices.labels]
        return {
            name: self.recipe.granularity("fold", keep[id(variable)], tuple(variable.shape))
            for name, variable in self.variables.items()
        }

    def layer(self, index: int) -> allocations.Layer:
        """Returns the channels of one group, scored."""
        group, members = self.groups[index]
        by_variable = {id(x.variable): x for x in self.kernels}
        scores = []
        for member in members:
            kernel = by_variable[id(member.slices.variable)]
            scores.append(self._score(kernel, self._view(kernel, member), index))
        sizes = np.zeros(len(group), np.int64)
        for member in group.members:  # also those that this criterion has no score for
            if kernel := by_variable.get(id(member.slices.variable)):
                rest = kernel.size // kernel.variable.shape[member.slices.axis]
                sizes += np.bincount(member.index, minlength=len(group)) * rest
        joined = self.recipe.granularity("joined", scores)
        return allocations.Layer(
            kernel=by_variable[id(members[0].slices.variable)],
            scores=joined,
            sizes=sizes,
            locked=self.recipe.locked(joined),
        )

    def _view(self, kernel: k.Kernel, member: Member) -> registry.Method:
        """Returns the granularity whose units are the group's channels in one kernel."""
        granularity, axis = self.recipe.granularity, member.slices.axis

        def unroll(array: np.ndarray) -> np.ndarray:
            own = kernel.restore(array)
            return granularity("unroll", own, axis, member.positions, member.index)

        return registry.Method(granularity.name, SimpleNamespace(unroll=unroll), {})

    def _score(self, kernel: k.Kernel, view: registry.Method, index: int) -> np.ndarray:
        weight = kernel.read()
        gamma: Callable[[], np.ndarray] = lambda: keras.ops.convert_to_numpy(  # noqa: E731
            self.norm[kernel.name].gamma
        )
        inputs = criteria.Inputs(
            weight=lambda: weight,
            units=lambda: view("unroll", weight),
            bn_scale=gamma,
            # The same for all members of a group, so that joining them changes nothing.
            rng=lambda: np.random.default_rng([self.recipe.seed, index]),
        )
        return criteria.score(self.recipe.criterion, view, inputs, kernel.layer.name)
