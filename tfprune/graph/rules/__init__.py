"""How labels pass each operation: a rule an operation, one to a few lines each.

A rule is `rule(channels, visit) -> labels of the output`, one entry an axis (the batch axis is the
first), None where nothing can be removed; a list of these for several outputs. It tells `channels`
which labels run along which axes of the layer's variables (`use`), what changes in the config when
channels go (`resize`), and what can't be removed (`freeze`).

    @tfprune.channel_rule(Scale)                      # a layer of one's own: x * gamma
    def scale(channels, visit):
        channels.use(visit.op, visit.op.gamma, "through", {-1: visit.x[-1]})
        return visit.x
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from tfprune.graph.channels import Axes, Channels, Visit

    Rule = Callable[[Channels, Visit], Axes | list[Axes]]
else:
    Rule = Callable

_OURS: dict[str, Rule] = {}
_USERS: dict[type, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for Keras' own layers and operations of these class names."""

    def register(function: Rule) -> Rule:
        _OURS.update(dict.fromkeys(names, function))
        return function

    return register


def channel_rule(*classes: type[keras.layers.Layer]) -> Callable[[Rule], Rule]:
    """Registers a rule for layers of one's own: `@tfprune.channel_rule(MyLayer)`.

    See `tfprune.graph.rules` for what a rule does, and its files for examples.

    Raises:
      TypeError: for something that is no layer class.
    """
    for kind in classes:
        if not (isinstance(kind, type) and issubclass(kind, keras.Operation)):
            raise TypeError(f"channel_rule takes layer classes, not {kind!r}")

    def register(function: Rule) -> Rule:
        _USERS.update(dict.fromkeys(classes, function))
        return function

    return register


def find(op: keras.Operation) -> Rule:
    """Returns the rule for an operation: the user's own first."""
    _load()
    kind = type(op)
    if kind in _USERS:
        return _USERS[kind]
    if kind.__module__.partition(".")[0] != "keras":  # a subclass may compute something else
        return unknown
    return _OURS.get(kind.__name__, _OURS["*"])


def unknown(g: "Channels", v: "Visit") -> "list[Axes]":
    """Freezes what an operation reads, and gives what it makes no labels."""
    reason = f"no channel rule for {type(v.op).__name__} {v.op.name!r}"
    for axes in v.axes:
        g.freeze(axes, reason)
    return [[None] * len(shape) for shape in v.outputs]


def several(axis: int | Sequence[int]) -> list[int]:
    """Returns the axes that an operation names by one number or by several."""
    return list(axis) if isinstance(axis, (tuple, list)) else [axis]


@functools.cache
def _load() -> None:
    for info in pkgutil.iter_modules(__path__, __name__ + "."):
        importlib.import_module(info.name)
