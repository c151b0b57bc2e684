"""How many units each layer keeps: one file an allocation.

An allocation turns the scores of all layers into one order of removal:

    keys(layers) -> one array (n_units,) a layer; the lower, the sooner a unit goes

so that every target is met by one cut through one order, weighed by what each unit costs, and a
sparser model's mask lies inside a denser one's. Infinite keys are never removed. A module that
sets `LEVELS = True` says that its keys are the sparsity at which a unit goes in its layer.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfprune import registry

if TYPE_CHECKING:
    from tfprune.graph.kernels import Kernel


@dataclasses.dataclass(frozen=True)
class Layer:
    """The units of one kernel.

    Attributes:
      kernel: the kernel.
      scores: importance of each unit, (n_units,).
      sizes: weights in each unit, (n_units,).
      locked: units that must stay, (n_units,).
    """

    kernel: "Kernel"
    scores: np.ndarray
    sizes: np.ndarray
    locked: np.ndarray


def get(spec: object) -> registry.Method:
    """Returns the allocation that `spec` names, such as `"global"`."""
    return registry.method("tfprune.allocation", "allocation", spec, "keys")


def quantiles(layer: Layer) -> np.ndarray:
    """Returns for each unit the share of the layer's weights gone at the middle of its removal.

    Units go by score, equals by position, locked ones last. Removing all units below a share s
    rounds the layer's number of removed units to the nearest.
    """
    order = np.lexsort((layer.scores, layer.locked))
    sizes = layer.sizes[order].astype(np.float64)
    result = np.empty(len(order))
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
    cost = np.concatenate(costs).astype(np.float64)
    free = ~np.concatenate([layer.locked for layer in layers]) & (cost > 0)
    keys = np.where(free, np.concatenate(allocation("keys", layers)), np.inf)
    free &= np.isfinite(keys)
    by_level = level is not None and getattr(allocation.definition, "LEVELS", False)
    slack = 0.5 * cost.max(initial=0) * (len(layers) if by_level else 1)
    if amount > cost[free].sum() + slack:
        raise Unreachable(cost[free].sum())
    if by_level:
        stays = ~(keys < level)
    else:
        stays = np.ones(len(cost), bool)
        stays[_first(np.flatnonzero(free), keys, cost, amount)] = False
    return np.split(stays, np.cumsum(sizes)[:-1])


def _first(units: np.ndarray, keys: np.ndarray, cost: np.ndarray, amount: float) -> np.ndarray:
    """Returns the units with the lowest keys whose cost together is nearest to `amount`.

    Equal keys go by position. It halves the units that are in question until few are left (a
    weighted quickselect), since sorting 25 million of them would take seconds.
    """
    chosen, left = [], amount
    while len(units) > _FEW:
        middle = np.partition(keys[units], len(units) // 2)[len(units) // 2]
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


class Unreachable(ValueError):
    """More was to be removed than can be; `most` is the most."""

    def __init__(self, most: float) -> None:
        super().__init__(f"at most {most:g} can be removed")
        self.most = most
