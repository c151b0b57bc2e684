"""How many units each layer keeps: one file an allocation.

An allocation turns the scores of all layers into one order of removal:

    keys(layers) -> one array (n_units,) a layer; the lower, the sooner a unit goes

so that every target is met by one cut through one order, weighed by what each unit costs, and a
sparser model's mask lies inside a denser one's. Infinite keys are never removed. A module that
sets `LEVELS = True` says that its keys are the sparsity at which a unit goes in its layer.

Where the best choice depends on the target, no single order serves all, and the function is

    keys(layers, costs, amount) -> keys from 0 to 1 on the way to saving `amount`, higher beyond

with what removing each unit saves, (n_units,) a layer. The cut ends where the target is met.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfprune import registry

if TYPE_CHECKING:
    from tfprune.graph.kernels import Kernel


@dataclasses.dataclass(frozen=True)
class Layer:
    """The units of one kernel, or the channels of one group.

    Attributes:
      name: of the kernel, or of the group.
      kernel: the kernel; of a group, the first that is scored.
      scores: importance of each unit, (n_units,).
      sizes: weights in each unit, (n_units,).
      locked: units that must stay, (n_units,).
    """

    name: str
    kernel: "Kernel"
    scores: np.ndarray
    sizes: np.ndarray
    locked: np.ndarray


def get(spec: object) -> registry.Method:
    """Returns the allocation that `spec` names, such as `"global"`."""
    return registry.method("tfprune.allocation", "allocation", spec, "keys")


def alike(arrays: Sequence[np.ndarray]) -> bool:
    """Returns whether arrays are all one number, kept once (`np.broadcast_to`)."""
    return all(a.strides == (0,) and a.size for a in arrays) and len({a[0] for a in arrays}) == 1


def quantiles(layer: Layer) -> np.ndarray:
    """Returns for each unit the share of the layer's weights gone at the middle of its removal.

    Units go by score, equals by position, locked ones last. Removing all units below a share s
    rounds the layer's number of removed units to the nearest.
    """
    order = np.lexsort((layer.scores, layer.locked))
    result = np.empty(len(order))
    if alike([layer.sizes]):
        result[order] = (np.arange(len(order)) + 0.5) / len(order)
    else:
        sizes = layer.sizes[order].astype(np.float64)
        result[order] = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    return result


def keep(
    allocation: registry.Method,
    layers: Sequence[Layer],
    costs: Sequence[np.ndarray],
    *,
    amount: float,
    level: float | None = None,
) -> list[np.ndarray]:
    """Returns which units stay, one bool array a layer.

    The units removed are those first in the allocation's order whose cost comes nearest to
    `amount`: within half a unit.

    Args:
      allocation: the order of removal.
      layers: the units.
      costs: what removing each unit saves, (n_units,) a layer. Units that save nothing stay.
      amount: the cost to remove, in all.
      level: the sparsity this amounts to, where cost is weights. An allocation whose keys are
        levels then cuts each layer there, which rounds in every layer instead of once in all.

    Raises:
      ValueError: if `amount` is more than can be removed.
    """
    sizes = [len(layer.scores) for layer in layers]
    if alike(costs):
        cost = np.broadcast_to(np.float64(costs[0][0]), sum(sizes))
    else:
        cost = np.concatenate(costs, dtype=np.float64)
    free = ~np.concatenate([layer.locked for layer in layers]) & (cost > 0)
    if _by_amount(allocation):
        keys = allocation("keys", layers, costs, amount)
    else:
        keys = allocation("keys", layers)
    keys = np.concatenate(keys)
    keys = keys if keys.dtype.kind == "f" else keys.astype(np.float64)
    keys[~free] = np.inf
    free &= keys < np.inf
    by_level = level is not None and getattr(allocation.definition, "LEVELS", False)
    slack = 0.5 * cost.max(initial=0) * (len(layers) if by_level else 1)
    most = cost.sum(where=free)
    if amount > most + slack:
        raise Unreachable(most)
    if by_level:
        stays = ~(keys < level)
    else:
        stays = np.ones(len(cost), bool)
        stays[_first(np.flatnonzero(free), keys, cost, amount)] = False
    return np.split(stays, np.cumsum(sizes)[:-1])


def cut(
    allocation: registry.Method,
    layers: Sequence[Layer],
    remaining: Callable[[list[np.ndarray]], float],
    goal: float,
    *,
    round_to: int = 1,
) -> list[np.ndarray]:
    """Returns which units stay, one bool array a layer, where costs depend on each other.

    What a channel costs changes as its neighbours go, so that the cut through the allocation's
    order is found by bisection: where the whole model's cost is nearest to the goal.

    Args:
      allocation: the order of removal.
      layers: the units.
      remaining: what is left when these units stay; it falls as units go.
      goal: what is to be left.
      round_to: each layer keeps the nearest multiple of it, at least one, or all its units.

    Raises:
      Unreachable: if more is left when all that may go is gone; `most` is what can be removed.
    """
    if _by_amount(allocation):
        keys = _settled(allocation, layers, remaining, goal)
    else:
        keys = allocation("keys", layers)
    keys = np.concatenate(keys).astype(np.float64)
    locked = np.concatenate([layer.locked for layer in layers])
    keys[locked] = np.inf
    order = np.argsort(keys, kind="stable")[: int(np.isfinite(keys).sum())]
    ends = np.cumsum([len(layer.scores) for layer in layers])
    last = np.full(len(keys), len(order))  # the later one goes, the more it is to be kept
    last[order] = np.arange(len(order))
    ranking = [np.lexsort((-part,)) for part in np.split(last, ends[:-1])]
    must = [int((part == len(order)).sum()) for part in np.split(last, ends[:-1])]

    def kept(removed: int) -> list[np.ndarray]:
        stays = np.split(last >= removed, ends[:-1])
        if round_to == 1:
            return stays
        result = []
        for stay, best, least in zip(stays, ranking, must, strict=True):
            wanted = max(round(stay.sum() / round_to), -(-least // round_to), 1) * round_to
            rounded = np.zeros(len(stay), bool)
            rounded[best[:wanted]] = True
            result.append(rounded)
        return result

    def left(removed: int) -> float:
        return remaining(kept(removed))

    everything = [np.ones(len(layer.scores), bool) for layer in layers]
    whole, least = remaining(everything), left(len(order))
    if goal >= whole:
        return everything
    if least > goal:
        before = left(max(len(order) - 1, 0)) if round_to == 1 else least
        if least - goal > max(before - least, 1e-9 * whole) / 2:
            raise Unreachable(whole - least)
        return kept(len(order))
    low, high = 0, len(order)  # what is left is above the goal at low, and not at high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) <= goal else (middle, high)
    return kept(low if left(low) - goal < goal - left(high) else high)


def _by_amount(allocation: registry.Method) -> bool:
    """Returns whether the allocation's order depends on how much is to go."""
    return "amount" in inspect.signature(allocation.definition.keys).parameters


def _settled(
    allocation: registry.Method,
    layers: Sequence[Layer],
    remaining: Callable[[list[np.ndarray]], float],
    goal: float,
) -> list[np.ndarray]:
    """Returns the keys of an allocation that asks for costs, where they depend on each other.

    What a unit saves is taken half-way to what was chosen before: where the cost is a product of
    two widths, this is exactly what it saves on the mean of all orders. A few turns settle it.
    """
    amount = remaining([np.ones(len(layer.scores), bool) for layer in layers]) - goal
    keys = [np.ones(len(layer.scores)) for layer in layers]
    for _ in range(_TURNS):
        half = [part >= 0.5 for part in keys]
        keys = allocation("keys", layers, _marginal(layers, remaining, half), amount)
    return keys


def _marginal(
    layers: Sequence[Layer],
    remaining: Callable[[list[np.ndarray]], float],
    keep: list[np.ndarray],
) -> list[np.ndarray]:
    """Returns what one unit more of each layer saves, (n_units,) a layer."""
    left, result = remaining(keep), []
    for i, layer in enumerate(layers):
        more = keep[i].copy()
        more[np.flatnonzero(more)[:1]] = False
        saved = left - remaining([*keep[:i], more, *keep[i + 1 :]])
        result.append(np.full(len(layer.scores), saved))
    return result


def _first(units: np.ndarray, keys: np.ndarray, cost: np.ndarray, amount: float) -> np.ndarray:
    """Returns the units with the lowest keys whose cost together is nearest to `amount`.

    Equal keys go by position. It halves the units that are in question until few are left (a
    weighted quickselect), since sorting 25 million of them would take seconds.
    """
    chosen, left = [], amount
    while len(units) > _FEW:
        values = keys[units]
        values.partition(len(units) // 2)  # in place: a second copy is 800 MB of 100 million
        middle = values[len(units) // 2]
        del values
        low = keys[units] < middle
        lower = cost[units[low]].sum()
        if not low.any():  # half of them are equal: whole if they fit, else the cut is among them
            low = keys[units] == middle
            lower = cost[units[low]].sum()
            if low.all() or lower > left:
                units = units[low]
                break
        if lower <= left:
            chosen.append(units[low])
            units, left = units[~low], left - lower
        else:
            units = units[low]
    units = units[np.argsort(keys[units], kind="stable")]
    removed = np.concatenate([[0.0], np.cumsum(cost[units])])
    return np.concatenate([*chosen, units[: np.abs(removed - left).argmin()]]).astype(int)


_FEW = 100_000
_TURNS = 4


class Unreachable(ValueError):
    """More was to be removed than can be; `most` is the most."""

    def __init__(self, most: float) -> None:
        super().__init__(f"at most {most:g} can be removed")
        self.most = most
