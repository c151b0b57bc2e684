"""The plan where units are coupled channels: everything that makes, changes or reads one."""

import collections
import dataclasses
import functools
import logging
import math
from collections.abc import Sequence
from types import SimpleNamespace

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import criteria, registry, statistics, targets
from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import macs, norms
from tfprune.graph.channels import Channels, Group, Member
from tfprune.planning.recipe import Part, Plan, Recipe, Scorer, Scores
from tfprune.planning.trial import Trial

log = logging.getLogger("tfprune")

# Multiples of a cost, and the label arrays whose numbers of kept channels multiply it.
Term = tuple[float, list[np.ndarray]]


def bind(recipe: Recipe, model: keras.Model, calibration: Calibration) -> "ChannelPlan":
    """Returns the plan; see `Recipe.bind`."""
    channels = Channels(model)
    kernels = {id(x.variable): x for x in k.find(model)[0]}
    shielded = _protected(recipe, list(kernels.values()))
    norm = None
    if "bn_scale" in criteria.needs(recipe.criterion):
        norm = norms.following(model, list(kernels.values()))
    chosen, skipped, seen = [], [], collections.Counter()
    for group in channels.groups():
        seen[group.name] += 1
        if seen[group.name] > 1:  # one layer may make channels of several groups
            group = dataclasses.replace(group, name=f"{group.name}#{seen[group.name]}")  # noqa: PLW2901
        scored, refused = _scored(recipe, group, kernels, norm)
        reason = group.frozen
        if not reason and any(id(m.slices.variable) in shielded for m in group.made):
            reason = "protected"
        if not reason and not scored:
            reason = refused
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
    plan = ChannelPlan(recipe, model, calibration, inside, skipped, 0.0, channels, chosen, terms)
    target = recipe.target
    if target is None or target.found:
        return plan
    return dataclasses.replace(plan, level=1 - target.remaining(plan.total) / plan.total)


def _protected(recipe: Recipe, kernels: list[k.Kernel]) -> set[int]:
    flags = k.protected(kernels, recipe.protect)
    return {id(x.variable) for x, flag in zip(kernels, flags, strict=True) if flag}


def _scored(
    recipe: Recipe, group: Group, kernels: dict[int, k.Kernel], norm: dict | None
) -> tuple[list[Member], str]:
    """Returns the members whose slices are scored, and else why one is not.

    They are kernels, what makes the channels first.
    """
    order = {"out": 0, "through": 1, "in": 2}
    members = sorted(group.members, key=lambda m: order[m.slices.role])
    members = [m for m in members if id(m.slices.variable) in kernels]
    side = getattr(recipe.criterion.definition, "SIDE", None)
    reason = "no kernel reads them" if side == "read" else "no kernel makes them"
    result = []
    for member in members:
        kernel = kernels[id(member.slices.variable)]
        if side and (member.slices.role == "in") != (side == "read"):
            continue
        refused = statistics.refusal(recipe.needed, kernel)
        if norm is not None and (kernel.name not in norm or not norm[kernel.name].scale):
            refused = "no batch normalisation with a scale follows directly"
        if refused:
            reason = refused
        else:
            result.append(member)
    # A trial is of a channel as a whole: whatever carries it, it is scored once.
    return (result[:1] if "trial" in recipe.needed else result), reason


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
    if target is None or target.kind in ("sparsity", targets.REDUNDANT):
        return [term(x.variable, 1) for x in inside]
    return [term(w, 1) for w in k.counted(model)]


@dataclasses.dataclass(frozen=True)
class ChannelPlan(Plan):
    """A recipe bound to the groups of coupled channels of a model.

    Attributes:
      recipe, model, calibration, kernels, skipped, level, memory: as in `Plan`.
      channels: the labels.
      groups: what may be pruned, and of each the members that are scored.
      terms: what the cost is made of.
    """

    recipe: Recipe
    model: keras.Model
    calibration: Calibration
    kernels: list[k.Kernel]
    skipped: list[k.Skipped]
    level: float
    channels: Channels
    groups: list[tuple[Group, list[Member]]]
    terms: list[Term]
    memory: dict[tuple, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> float:
        """The whole cost before pruning."""
        return self._cost(np.zeros(len(self.channels.labels), bool))

    def _cost(self, gone: np.ndarray) -> float:
        return sum(
            times * math.prod(len(x) - np.count_nonzero(gone[x]) for x in labels)
            for times, labels in self.terms
        )

    def masks(
        self, level: float | None = None, scores: Scores | None = None
    ) -> dict[str, np.ndarray]:
        """Returns masks of all variables that carry the channels; see `Plan.masks`."""
        return self.fold(self.gone(level, scores))

    def gone(self, level: float | None = None, scores: Scores | None = None) -> np.ndarray:
        """Returns for each label whether its channel goes, (labels,); see `Plan.masks`."""
        level, total = self.removed(level), self.total
        try:
            return self._cut(total * (1 - level), scores)
        except allocations.Unreachable as error:
            raise self.unreachable(level, error.most, total) from None

    def most(self, scores: Scores) -> float:
        """Returns the highest level that can be reached."""
        try:
            self._cut(-math.inf, scores)
        except allocations.Unreachable as error:
            return error.most / self.total
        return 1.0

    def _cut(self, goal: float, scores: Scores | None) -> np.ndarray:
        """Returns which labels go so that a cost of `goal` is left."""
        keep = allocations.cut(
            self.recipe.allocation,
            (scores or self.scores()).layers,
            lambda keep: self._cost(self._labels(keep)),
            goal,
            round_to=self.recipe.round_to,
        )
        return self._labels(keep)

    def _labels(self, keep: list[np.ndarray]) -> np.ndarray:
        gone = np.zeros(len(self.channels.roots), bool)
        for (group, _), stays in zip(self.groups, keep, strict=True):
            gone[group.labels] = ~stays
        return gone[self.channels.roots]

    @property
    def variables(self) -> dict[str, keras.Variable]:
        """The trainable variables that carry the channels."""
        touched = {id(m.slices.variable) for group, _ in self.groups for m in group.members}
        named = k.named(self.model).items()
        return {n: w for n, w in named if id(w) in touched and w.trainable}

    def fold(self, gone: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the masks that zero the channels of labels that are `gone`, (labels,)."""
        keep: dict[int, dict[int, np.ndarray]] = {}
        for (variable, axis), slices in self.channels.slices.items():
            keep.setdefault(variable, {})[axis] = ~gone[slices.labels]
        return {
            name: self.recipe.granularity("fold", keep[id(variable)], tuple(variable.shape))
            for name, variable in self.variables.items()
        }

    @functools.cached_property
    def _by_variable(self) -> dict[int, k.Kernel]:
        return {id(x.variable): x for x in self.kernels}

    def layers(self, score: Scorer) -> list[allocations.Layer]:
        """Returns the channels of all groups; see `Plan.layers`."""
        return [self._layer(i, score) for i in range(len(self.groups))]

    def _layer(self, index: int, score: Scorer) -> allocations.Layer:
        group, members = self.groups[index]
        criterion = self.recipe.criterion
        parts = [self._part(member) for member in members]
        together = [parts] if criteria.has(criterion, "JOINT") else [[part] for part in parts]
        joined = self.recipe.granularity(
            "joined",
            [score(some, index) for some in together],
            comparable=criteria.has(criterion, "COMPARABLE"),
        )
        # Also those that this criterion has no score for.
        carriers = [m for m in group.members if id(m.slices.variable) in self._by_variable]
        return allocations.Layer(
            name=group.name,
            kernel=self._by_variable[id(members[0].slices.variable)],
            scores=joined,
            sizes=sum(m.weights(len(group)) for m in carriers),
            locked=self.recipe.locked(joined),
        )

    def corrected(
        self, masks: dict[str, np.ndarray], scores: Scores
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns masks, and what variables become; see `Plan.corrected`."""
        if self.recipe.correction != "merge":
            return super().corrected(masks, scores)
        from tfprune.planning import merging

        return masks, merging.merged(self, merging.alike(self, masks))

    def without(self, index: int, gone: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the masks of all that carries these channels; see `Plan.without`."""
        return self.fold(self._alone(index, gone))

    def saved(self, index: int, gone: np.ndarray) -> float:
        """Returns what the smaller model saves; see `Plan.saved`."""
        return self.total - self._cost(self._alone(index, gone))

    def _alone(self, index: int, gone: np.ndarray) -> np.ndarray:
        keep = [np.ones(len(group), bool) for group, _ in self.groups]
        keep[index] = ~gone
        return self._labels(keep)

    def _part(self, member: Member) -> Part:
        """Returns a kernel and the granularity whose units are the group's channels in it."""
        kernel = self._by_variable[id(member.slices.variable)]
        granularity, axis = self.recipe.granularity, member.slices.axis

        def unroll(array: np.ndarray) -> np.ndarray:
            own = kernel.restore(array)
            return granularity("unroll", own, axis, member.positions, member.index)

        name = f"{granularity.name} along axis {axis}"
        return kernel, registry.Method(name, SimpleNamespace(unroll=unroll), {})

    def share(self, gone: Sequence[np.ndarray]) -> float:
        """Returns the share of the model's cost; see `Plan.share`."""
        left = self._cost(self._labels([~units for units in gone]))
        return 1 - left / self.total

    def trial(self, index: int) -> Trial:
        """Returns what tries out the loss without some channels of one group."""
        group, _ = self.groups[index]
        readers: dict[str, list[Member]] = {}
        for member in group.members:
            kernel = self._by_variable.get(id(member.slices.variable))
            if kernel and member.slices.role == "in":
                readers.setdefault(kernel.name, []).append(member)
        kernels = [x for x in self.kernels if x.name in readers]

        def without(units: np.ndarray) -> dict[str, np.ndarray]:
            """A channel that nothing reads is gone."""
            return {
                x.name: np.stack([x.canonical(_unread(x, readers[x.name], u)) for u in units])
                for x in kernels
            }

        return Trial(self.calibration, kernels, len(group), without)


def _unread(kernel: k.Kernel, members: list[Member], gone: np.ndarray) -> np.ndarray:
    """Returns the mask of a kernel that reads none of the channels that are `gone`."""
    mask = np.ones(tuple(kernel.variable.shape), bool)
    for member in members:
        place = [slice(None)] * mask.ndim
        place[member.slices.axis] = member.positions[gone[member.index]]
        mask[tuple(place)] = False
    return mask
