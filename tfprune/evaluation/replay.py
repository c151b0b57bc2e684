"""Allocation that gives each layer what another method left it.

Which layers a method spares is often all of its advantage; random and magnitude scores on the same
layer allocation tell (Frankle et al. 2021, arXiv 2009.08576, shuffle likewise).
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfprune.allocation import Layer


def of(record: Mapping[str, object]) -> Callable[[Sequence[Layer]], list[np.ndarray]]:
    """Returns the allocation that a trial ended with, for `tfprune.prune(allocation=...)`."""
    if record["granularity"] == "channel":
        rows, left, whole = record["channels"], "kept", "channels"
    else:
        rows, left, whole = record["layers"], "nonzero_params", "params"
    shares: dict[str, float] = {}
    seen: dict[str, int] = {}
    for row in rows:
        name = row["name"]
        seen[name] = seen.get(name, 0) + 1  # one layer may make channels of several groups
        shares[name if seen[name] == 1 else f"{name}#{seen[name]}"] = row[left] / row[whole]
    return functools.partial(keys, shares=shares)


def keys(layers: Sequence[Layer], *, shares: Mapping[str, float]) -> list[np.ndarray]:
    """Returns for each unit when it goes: before 1 on the way to the layers' shares, else after.

    Args:
      layers: the units.
      shares: {layer: the share of its units that it keeps}; all where a layer isn't named.
    """
    result = []
    for layer in layers:
        count = len(layer.scores)
        kept = round(shares.get(layer.name, 1.0) * count)
        rank = np.empty(count)
        rank[np.lexsort((layer.scores, layer.locked))] = np.arange(count)
        gone = count - kept
        early, late = (rank + 0.5) / max(gone, 1), 1 + (rank - gone + 0.5) / max(kept, 1)
        result.append(np.where(rank < gone, early, late))
    return result
