"""Which channels of a model are one: what must be removed together so that the rest still fits.

Every channel that a layer makes gets a label. The labels follow the tensors through the graph by a
rule an operation (`tfprune.graph.rules`): element-wise operations unite the labels of what meets,
concatenation joins them, flattening repeats them, a slice takes some. Each variable's axes are
noted with the labels that run along them. Labels that were united are one coupled channel, what
carries it is its slices, and channels with the same producers are one group (DepGraph, Fang et
al. 2023, arXiv 2301.12900, groups by the same relation). What no rule knows is frozen.
"""

import dataclasses
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfprune.graph import trace as tracing
from tfprune.graph.labels import Labels
from tfprune.graph.rules import find

# For each axis of a tensor, the labels along it, or None where nothing can be removed.
Axes = list[np.ndarray | None]
Kept = Callable[[np.ndarray], int]


@dataclasses.dataclass(frozen=True, eq=False)
class Slices:
    """One axis of a variable, with the labels along it.

    `role` is "out" where the slice makes the channel, "in" where it reads it, "through" where it
    changes it in passing (depthwise kernels, normalisation).
    """

    layer: keras.layers.Layer
    variable: keras.Variable
    axis: int
    labels: np.ndarray
    role: str


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """The part of a `Slices` that belongs to one group.

    `positions` along the axis hold the group's channels `index`, both (n,).
    """

    slices: Slices
    positions: np.ndarray
    index: np.ndarray

    def weights(self, channels: int) -> np.ndarray:
        """Returns how many of the variable's weights each channel of its group has, (channels,)."""
        variable, axis = self.slices.variable, self.slices.axis
        rest = math.prod(variable.shape) // variable.shape[axis]
        return np.bincount(self.index, minlength=channels) * rest


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Channels that the same layers make: the choice of some is free, how many is a layer's width.

    Attributes:
      name: the layer that makes them first.
      labels: their roots, (channels,).
      members: what carries them.
      frozen: why none can be removed, or an empty string.
    """

    name: str
    labels: np.ndarray
    members: list[Member]
    frozen: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers that make or pass the channels, first to last."""
        found = {id(m.slices.layer): m.slices.layer for m in self.made}
        return list(found.values())

    @property
    def made(self) -> list[Member]:
        """The members that make or pass the channels."""
        return [m for m in self.members if m.slices.role != "in"]


@dataclasses.dataclass(frozen=True, eq=False)
class Visit:
    """One operation as a rule sees it: itself, its arguments, and its tensors' shapes and labels.

    `shapes` and `axes` belong to `inputs`, the symbolic tensors among the arguments, in order;
    `outputs` are the shapes of what it returns.
    """

    op: keras.Operation
    args: tuple
    kwargs: dict[str, object]
    inputs: tuple[keras.KerasTensor, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    axes: tuple[Axes, ...]
    outputs: tuple[tuple[int | None, ...], ...]

    @property
    def x(self) -> Axes:
        """The labels of the first input."""
        return list(self.axes[0])

    def argument(self, name: str, default: object = None) -> object:
        """Returns what the operation's `call` was given as `name`."""
        bound = inspect.signature(self.op.call).bind_partial(*self.args, **self.kwargs)
        return bound.arguments.get(name, default)

    def axis(self, axis: int) -> int:
        """Returns an axis of the first input, counted from the front."""
        return axis % len(self.axes[0])


class Channels:
    """The labels of a model's channels, and what has to change in its layers when some go."""

    def __init__(self, model: keras.Model) -> None:
        """Follows the channels of a functional or sequential `model`.

        Raises:
          ValueError: for a model that is not built, whose graph is not known (subclassed), or
            with a layer of data_format channels_first.
        """
        self.labels = Labels()
        self.slices: dict[tuple[int, int], Slices] = {}
        # Attention layers and the labels of their heads: they multiply what no kernel counts.
        self.heads: list[tuple[keras.layers.Layer, np.ndarray]] = []
        self._edits: dict[int, Callable[[dict, Kept], None]] = {}
        self._calls: dict[int, Callable[[tuple, dict, Kept], tuple[tuple, dict]]] = {}
        self._frozen: list[tuple[np.ndarray, str]] = []
        self._moved: list[np.ndarray] = []
        self._counted: list[np.ndarray] = []
        self._parts: list[np.ndarray] = []
        self._fixed: set[tuple[int, int]] = set()
        self._probed: dict[tuple[int, int], tuple[Callable, bool | None]] = {}
        self._visits: dict[int, Visit] = {}
        _check(model)
        graph = tracing.graph(model)
        outputs = self._follow(graph, [[None] * len(x.shape) for x in graph.inputs])
        others, self._frozen = self._frozen, []  # of several reasons, this is the one to be told
        for axes in outputs:
            self.freeze(axes, "they are the model's output")
        self._frozen += others

    # What rules use ------------------------------------------------------------------------------

    def fresh(self, count: int) -> np.ndarray:
        """Returns labels for `count` channels that are made here."""
        return self.labels.fresh(count)

    def unite(self, a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
        """Unites the labels of two axes that meet; what meets a fixed axis is frozen."""
        if a is None or b is None:
            other = b if a is None else a
            self.freeze([other], "they meet channels that are fixed")
            return other
        self.labels.unite(a, b)
        return a

    def freeze(self, axes: Sequence[np.ndarray | None], reason: str) -> None:
        """Says that none of these labels can be removed, and why."""
        self._frozen += [(labels, reason) for labels in axes if labels is not None and labels.size]

    def only(self, visit: Visit, *allowed: int) -> None:
        """Freezes the labels on all axes of the first input but those allowed."""
        kept = {visit.axis(axis) for axis in allowed}
        kind = type(visit.op).__name__
        self.freeze(
            [x for i, x in enumerate(visit.x) if i not in kept],
            f"{kind} {visit.op.name!r} works along their axis",
        )

    def use(
        self,
        layer: keras.layers.Layer,
        variable: keras.Variable | None,
        role: str,
        axes: dict[int, np.ndarray | None],
    ) -> None:
        """Notes the labels along some axes of a variable; a shared one unites them."""
        if variable is None:
            return
        for axis, labels in axes.items():
            key = id(variable), axis % len(variable.shape)
            known = self.slices.get(key)
            if labels is None:
                self._fixed.add(key)
            elif known:
                self.labels.unite(known.labels, labels)
            else:
                known = self.slices[key] = Slices(layer, variable, key[1], labels, role)
            if known and key in self._fixed:
                self.freeze([known.labels], f"{layer.name!r} is shared with fixed channels")

    def resize(self, op: keras.Operation, **entries: np.ndarray | None) -> None:
        """Has entries of the operation's config set to how many of these labels are kept."""

        def edit(config: dict, kept: Kept) -> None:
            config |= {key: kept(x) for key, x in entries.items() if x is not None}

        self.edit(op, edit)

    def edit(self, op: keras.Operation, change: Callable[[dict, Kept], None]) -> None:
        """Has `change(config, kept)` applied to the operation's config when channels go."""
        self._edits[id(op)] = change

    def call_with(
        self, op: keras.Operation, change: Callable[[tuple, dict, Kept], tuple[tuple, dict]]
    ) -> None:
        """Has `change(args, kwargs, kept)` give the arguments of the operation's call instead."""
        self._calls[id(op)] = change

    def part(self, labels: np.ndarray) -> None:
        """Says that these channels are taken by themselves: they are a group of their own."""
        self._parts.append(labels)

    def activate(self, axes: Axes, function: Callable, where: str) -> None:
        """Takes the labels through an activation, which is tried out.

        One that is not element by element freezes them; where f(0) is not 0, a channel of zeros
        is no channel of zeros any more.
        """
        key = id(function), len(axes)
        if key not in self._probed:  # the function is kept, so that its id stays its own
            self._probed[key] = function, _probe(function, max(len(axes), 2))
        _, verdict = self._probed[key]
        if verdict is None:
            name = getattr(function, "__name__", type(function).__name__)
            self.freeze(axes, f"{name} {where} mixes them")
        elif not verdict:
            self.moves_zero(axes)

    def moves_zero(self, axes: Axes) -> None:
        """Says that these channels are not zero where what makes them is."""
        self._moved += [labels for labels in axes if labels is not None]

    def counts(self, labels: np.ndarray | None) -> None:
        """Says that something is summed over these channels: they can go if they are zero."""
        if labels is not None:
            self._counted.append(labels)

    def inner(self, op: keras.Operation, visit: Visit, drop: int) -> list[Axes]:
        """Returns the output labels of `op`, called on the first input without its axis `drop`."""

        def without(shape: Sequence) -> list:
            return [x for i, x in enumerate(shape) if i != drop]

        inside = Visit(
            op,
            (),
            {},
            visit.inputs[:1],
            (tuple(without(visit.shapes[0])),),
            (without(visit.axes[0]),),
            tuple(tuple(without(shape)) for shape in visit.outputs),
        )
        return [[*x[:drop], None, *x[drop:]] for x in self._apply(inside)]

    def edited(self, op: keras.Operation, config: dict, kept: Kept) -> None:
        """Applies the edits noted for `op` to `config`."""
        if change := self._edits.get(id(op)):
            change(config, kept)

    def edited_inside(self, op: keras.Operation, serialized: dict, kept: Kept) -> None:
        """Applies them to a layer within another's config, which is not to be built by the old."""
        serialized.pop("build_config", None)
        self.edited(op, serialized["config"], kept)

    def changed_call(
        self, op: keras.Operation, args: tuple, kwargs: dict, kept: Kept
    ) -> tuple[tuple, dict]:
        """Returns the arguments of the operation's call when channels go."""
        change = self._calls.get(id(op))
        return change(args, kwargs, kept) if change else (args, kwargs)

    # The walk ------------------------------------------------------------------------------------

    def _follow(self, graph: tracing.Graph, inputs: Sequence[Axes]) -> list[Axes]:
        axes = {id(x): list(a) for x, a in zip(graph.inputs, inputs, strict=True)}
        for node in graph.nodes:
            visit = Visit(
                node.operation,
                node.args,
                node.kwargs,
                node.inputs,
                tuple(x.shape for x in node.inputs),
                tuple(axes[id(x)] for x in node.inputs),
                tuple(x.shape for x in node.outputs),
            )
            results = self._apply(visit)
            axes |= {id(x): a for x, a in zip(node.outputs, results, strict=True)}
        return [axes[id(x)] for x in graph.outputs]

    def _apply(self, visit: Visit) -> list[Axes]:
        op = visit.op
        if tracing.is_graph(op):
            self._agree(visit)
            return self._follow(tracing.graph(op), visit.axes)
        result = find(op)(self, visit)
        if id(op) in self._edits or id(op) in self._calls:
            self._agree(visit)
        if result and not isinstance(result[0], list):
            result = [result]
        return [self._fitting(op, *each) for each in zip(result, visit.outputs, strict=True)]

    def _agree(self, visit: Visit) -> None:
        """Unites the inputs of all visits to an operation that has one shape for all of them."""
        first = self._visits.setdefault(id(visit.op), visit)
        for before, now in zip(first.axes, visit.axes, strict=True):
            for a, b in zip(before, now, strict=True):
                if a is not None and b is not None and len(a) != len(b):
                    self.freeze([a, b], f"{visit.op.name!r} is used at several sizes")
                elif a is not b:
                    self.unite(a, b)

    def _fitting(self, op: keras.Operation, axes: Axes, shape: Sequence[int | None]) -> Axes:
        """Freezes labels that are not as many as there are channels."""
        fits = [x is None or size in (None, len(x)) for x, size in zip(axes, shape, strict=True)]
        self.freeze(
            [x for x, fit in zip(axes, fits, strict=True) if not fit],
            f"{type(op).__name__} {op.name!r} changes how many there are",
        )
        return [x if fit else None for x, fit in zip(axes, fits, strict=True)]

    def entry(self, model: keras.Model) -> Sequence[Axes]:
        """Returns the labels of the inputs of the model, or of one inside it."""
        visit = self._visits.get(id(model))
        return visit.axes if visit else [[None] * len(x.shape) for x in model.inputs]

    # What comes of it ----------------------------------------------------------------------------

    @functools.cached_property
    def roots(self) -> np.ndarray:
        """For each label the one that stands for all it was united with, (labels,)."""
        return self.labels.roots(np.arange(len(self.labels)))

    @property
    def moved(self) -> np.ndarray:
        """For each label whether it is not zero where what makes it is, (labels,)."""
        return self._mark(self._moved)

    @property
    def counted(self) -> np.ndarray:
        """For each label whether a sum runs over it, (labels,)."""
        return self._mark(self._counted)

    def _mark(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns for each label whether it is, or was united with, one of these, (labels,)."""
        marked = np.zeros(len(self.roots), bool)
        for labels in arrays:
            marked[self.roots[labels]] = True
        return marked[self.roots]

    def groups(self) -> list[Group]:
        """Returns all groups, in the order in which they are made."""
        roots = self.roots
        everything = list(self.slices.values())
        producers: dict[int, list[int]] = {}
        for number, slices in enumerate(everything):
            if slices.role == "out":
                for root in np.unique(roots[slices.labels]).tolist():
                    producers.setdefault(root, []).append(number)
        for number, labels in enumerate(self._parts):  # what is taken apart must not be empty
            for root in np.unique(roots[labels]).tolist():
                if root in producers:
                    producers[root].append(len(everything) + number)
        by_producers: dict[tuple[int, ...], list[int]] = {}
        for root in sorted(producers):
            by_producers.setdefault(tuple(producers[root]), []).append(root)
        number_of = np.full(len(roots), -1)
        index_of = np.zeros(len(roots), np.int64)
        for number, found in enumerate(by_producers.values()):
            number_of[found], index_of[found] = number, np.arange(len(found))
        members: list[list[Member]] = [[] for _ in by_producers]
        for slices in everything:
            own = roots[slices.labels]
            for number in np.unique(number_of[own]):
                if number >= 0:
                    positions = np.flatnonzero(number_of[own] == number)
                    members[number].append(Member(slices, positions, index_of[own[positions]]))
        reasons = self._reasons()
        return [
            Group(
                everything[first[0]].layer.name,
                np.array(found),
                member,
                next((reasons[r] for r in found if r in reasons), ""),
            )
            for (first, found), member in zip(by_producers.items(), members, strict=True)
        ]

    def _reasons(self) -> dict[int, str]:
        """Returns {root: why it is frozen}, the first reason given."""
        both = np.flatnonzero(self.moved & self.counted)
        summed = (both, "they are summed over where a removed channel would not be zero")
        reasons: dict[int, str] = {}
        for labels, reason in [*self._frozen, summed]:
            for root in np.unique(self.roots[labels]).tolist():
                reasons.setdefault(root, reason)
        return reasons


def _check(model: keras.Model) -> None:
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: call it once on data first")
    if not tracing.is_graph(model):
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}) is subclassed: what happens between "
            "its layers is Python code, so channels can't be followed. Build it as a functional "
            "model, keras.Model(inputs, outputs), or zero whole filters in it with "
            'granularity="filter", which removes nothing'
        )
    for layer in tracing.layers(model):
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"layer {layer.name!r} has data_format='channels_first': build the model with "
                "channels_last, which TFLite needs as well, and set its weights (they are the same)"
            )


def _probe(function: Callable, rank: int) -> bool | None:
    """Returns whether an activation keeps zeros; None if it does not go element by element."""
    values = np.linspace(-2.5, 3.1, 3 * 2 ** (rank - 1), dtype=np.float32)
    values = np.random.default_rng(0).permutation(values)

    def run(array: np.ndarray) -> np.ndarray:
        return keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(array)))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # softmax warns of the single value it is tried on
            return _keeps_zero(run, values, rank)
    except Exception:  # whatever it is, it is no function of single values
        return None


def _keeps_zero(run: Callable, values: np.ndarray, rank: int) -> bool | None:
    together = run(values.reshape(*[2] * (rank - 1), 3)).ravel()
    apart = run(values.reshape(-1, *[1] * (rank - 1))).ravel()
    if not np.allclose(together, apart, rtol=1e-5, atol=1e-6):
        return None
    zero = run(np.zeros([1] * rank, np.float32))
    return bool(not zero.any()) if np.isfinite(zero).all() else None
