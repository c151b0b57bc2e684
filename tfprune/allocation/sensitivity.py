"""The cheapest way to the target by what each layer loses: a knapsack over (loss, cost) tables.

Each layer has a loss for each sparsity it may be given, and a cost that it saves there. Chosen are
the sparsities whose losses add up to the least while enough is saved: an exact choice by dynamic
programming over a finely divided cost, as SPDY's (Frantar & Alistarh 2022, arXiv 2201.13096).

    f_l(b) = min over s of f_(l-1)(b - saved_l(s)) + loss_l(s),   f_0(b) = 0 if b <= 0 else infinite

A layer's losses are those that a scan measured (`tfprune.scan`), or, without one, made from the
criterion's own scores: the sum of those that go over the sum of those that stay, as noise over
signal. A ratio, since scores of different layers mostly can't be compared, not even where each is
the error of its layer's output: what that is worth depends on how large the output is. It is convex
in what is saved, so that the greedy choice is as good; a scan knows what no formula can, such as a
layer that loses nothing up to 80 % and everything at 90 %.

What is saved is what the target counts, or, with `cost="ms"`, the measured time of the layers, of
which the least share is then spent that meets the target.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfprune import registry
from tfprune.allocation import Layer

if TYPE_CHECKING:
    import pandas as pd

# The sparsities that a layer may be given; the cut ends between them.
_GRID = np.concatenate([np.arange(0, 0.99, 0.01), np.linspace(0.99, 1, 11)])
_BUCKETS = 10_000

# What options of each layer save and lose, (options,) a layer, each rising from 0.
Tables = Sequence[np.ndarray]

# How much is to be saved -> the option of each layer.
Choose = Callable[[float], list[int]]


def keys(
    layers: Sequence[Layer],
    costs: Sequence[np.ndarray],
    amount: float,
    *,
    scan: "str | pd.DataFrame | None" = None,
    solver: str = "dp",
    cost: str = "target",
) -> list[np.ndarray]:
    """Returns an order that runs from the dense model straight to the best choice, and beyond.

    Args:
      layers: the units.
      costs: what removing each unit saves, (n_units,) a layer.
      amount: the cost to remove, in all.
      scan: the table of `tfprune.scan`, or its CSV file, such as
        `"sensitivity('runs/scan/sensitivity.csv')"`. It is of the same granularity and
        criterion; a layer goes no further than it was scanned, unless all have to.
      solver: "dp", or "greedy": the least loss for the next saving, again and again.
      cost: "target", or "ms": the milliseconds of each layer, a column of the scan that
        `pipelines.sensitivity --layer_ms` measures; each unit has its part of them.

    Raises:
      ValueError: for a layer that was not scanned, or another solver or cost.
      OSError: if the file can't be read.
    """
    if solver not in _SOLVERS:
        raise registry.unknown("solver", solver, _SOLVERS)
    if cost not in ("target", "ms"):
        raise registry.unknown("cost", cost, ("target", "ms"))
    scanned = _scanned(scan, [layer.name for layer in layers], timed=cost == "ms")
    counts, saved, losses, times = [], [], [], []
    for layer, price, found in zip(layers, costs, scanned, strict=True):
        order = np.lexsort((layer.scores, layer.locked))
        free = len(order) - np.count_nonzero(layer.locked)
        count = np.unique(np.minimum(np.rint(_GRID * len(order)), free)).astype(int)
        if found is None:
            losses.append(_own(_sums(_shares(layer)[order], count)))
        else:
            share = _sums(layer.sizes[order], count) / layer.sizes.sum()
            within = share <= found.reach + 1e-9
            count, share = count[within], share[within]
            losses.append(found.loss(np.minimum(share, found.reach)))
            times.append(share * found.ms)
        counts.append(count)
        saved.append(_sums(price[order], count))
    if cost == "ms":
        choose = _SOLVERS[solver](times, losses, _most(times))
        chosen = _enough(choose, times, saved, amount)
    else:
        chosen = _SOLVERS[solver](saved, losses, amount)(amount)
    return [_way(layer, count[i]) for layer, count, i in zip(layers, counts, chosen, strict=True)]


def _shares(layer: Layer) -> np.ndarray:
    """Returns each unit's share of the layer's scores, (n_units,)."""
    # Scores are by weight, and may be negative (a change of the loss, say).
    worth = (layer.scores - np.float64(min(layer.scores.min(), 0))) * layer.sizes
    total = worth.sum()
    return worth / total if total > 0 else np.zeros(len(worth))


def _own(gone: np.ndarray) -> np.ndarray:
    """Returns the losses of a layer of whose scores these shares go."""
    return gone / np.maximum(1 - gone, 1e-9)


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the sums of the first values, for each of these counts of them."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])[counts]


def _way(layer: Layer, count: int) -> np.ndarray:
    """Returns keys at which the first `count` units go from 0 to 1, and the others from 1 to 2."""
    n = len(layer.scores)
    first = (np.arange(count) + 0.5) / max(count, 1)
    rest = 1 + (np.arange(n - count) + 0.5) / max(n - count, 1)
    result = np.empty(n)
    result[np.lexsort((layer.scores, layer.locked))] = np.concatenate([first, rest])
    return result


def _most(saved: Tables) -> float:
    return float(sum(s[-1] for s in saved))


def _total(table: Tables, chosen: Sequence[int]) -> float:
    return float(sum(values[i] for values, i in zip(table, chosen, strict=True)))


def _enough(choose: Choose, times: Tables, saved: Tables, amount: float) -> list[int]:
    """Returns the choice that saves the least time of those that save enough of the target."""
    low, high = 0.0, _most(times)
    for _ in range(20):
        middle = (low + high) / 2
        if _total(saved, choose(middle)) >= amount:
            high = middle
        else:
            low = middle
    return choose(high)


def knapsack(saved: Tables, losses: Tables, most: float) -> Choose:
    """Returns the function from an amount to the options that save it at the least loss.

    Costs are counted in 10,000ths of `most`, rounded so that no less than the amount is saved;
    whole numbers up to that are exact. If more is asked for than there is, it is all that there is.

    Args:
      saved: what each option of a layer saves.
      losses: what each loses.
      most: the largest amount that the function is asked for.
    """
    most = max(min(most, _most(saved)), 0.0)
    whole = all((s % 1 == 0).all() for s in saved)
    step = max(most / _BUCKETS, 1.0 if whole else 1e-300)
    # Rounding has its say close to all that there is.
    end = min(math.ceil(most / step), sum(int(s[-1] // step) for s in saved))
    best = np.full(end + 1, np.inf)  # the least loss that saves so much or more
    best[0] = 0.0
    choices = []
    for save, loss in zip(saved, losses, strict=True):
        buckets = np.minimum(save // step, end).astype(int)
        total = np.full(end + 1, np.inf)
        choice = np.zeros(end + 1, np.int16)
        for option, (width, more) in enumerate(zip(buckets, loss, strict=True)):
            found = np.concatenate([np.full(width, best[0]), best[: end + 1 - width]]) + more
            better = found < total
            total[better], choice[better] = found[better], option
        best = total
        choices.append((buckets, choice))

    def choose(amount: float) -> list[int]:
        if amount >= _most(saved):
            return [len(s) - 1 for s in saved]
        chosen, left = [], min(max(math.ceil(amount / step), 0), end)
        for buckets, choice in reversed(choices):
            chosen.append(int(choice[left]))
            left = max(left - buckets[chosen[-1]], 0)
        return chosen[::-1]

    return choose


def greedy(saved: Tables, losses: Tables, most: float) -> Choose:
    """Returns what `knapsack` does, less exactly: steps of the least loss for what they save."""
    del most

    def best_step(layer: int, at: int) -> tuple[float, int]:
        """Returns the loss a cost of a layer's best next option, whichever is best, and it."""
        save, loss = (x[layer][at + 1 :] - x[layer][at] for x in (saved, losses))
        if not (save > 0).any():
            return np.inf, at
        ratio = np.where(save > 0, loss / np.maximum(save, 1e-300), np.inf)
        return float(ratio.min()), at + 1 + int(ratio.argmin())

    def choose(amount: float) -> list[int]:
        chosen = [0] * len(saved)
        steps = [best_step(i, 0) for i in range(len(saved))]
        while (missing := amount - _total(saved, chosen)) > 0:
            layer = min(range(len(steps)), key=lambda i: steps[i][0])
            if steps[layer][0] == np.inf:
                break
            at = chosen[layer]
            enough = int(np.searchsorted(saved[layer], saved[layer][at] + missing))
            chosen[layer] = min(steps[layer][1], max(enough, at + 1))
            steps[layer] = best_step(layer, chosen[layer])
        return chosen

    return choose


_SOLVERS = {"dp": knapsack, "greedy": greedy}


@dataclasses.dataclass(frozen=True)
class _Scanned:
    """What a scan says of a layer.

    Attributes:
      reach: how far it was scanned, as a share of its weights.
      loss: shares of its weights -> what the loss rises by.
      ms: the time of the whole layer, NaN if it was not measured.
    """

    reach: float
    loss: Callable[[np.ndarray], np.ndarray]
    ms: float


def _scanned(scan: object, names: Sequence[str], *, timed: bool) -> list[_Scanned | None]:
    """Returns what the scan says of each layer, None without a scan.

    Noise is taken out by the nearest curve that only rises (isotonic regression), and between the
    points runs the cubic that rises too (PCHIP, Fritsch & Carlson 1980).
    """
    import pandas as pd
    from scipy.interpolate import PchipInterpolator
    from sklearn.isotonic import isotonic_regression

    if scan is None:
        if timed:
            raise ValueError("cost='ms' needs a scan with a column ms: see pipelines.sensitivity")
        return [None] * len(names)
    table = scan if isinstance(scan, pd.DataFrame) else pd.read_csv(scan)
    if missing := {"layer", "zeros", "loss_change", *(["ms"] if timed else [])} - set(table):
        raise ValueError(f"the scan has no column {', '.join(sorted(missing))}: see tfprune.scan")
    known = dict(iter(table.groupby("layer")))
    result = []
    for name in names:
        rows = known[_match(name, known)]
        points = rows[rows["zeros"] > 0].groupby("zeros")["loss_change"].mean()
        zeros = np.concatenate([[0.0], points.index])
        # The dense model is no measurement among others: its loss changes by 0.
        rising = isotonic_regression(np.maximum(np.concatenate([[0.0], points]), 0))
        curve = PchipInterpolator(zeros, rising) if len(zeros) > 1 else np.zeros_like
        ms = float(rows["ms"].iloc[0]) if "ms" in rows else np.nan
        result.append(_Scanned(float(zeros[-1]), curve, ms))
    return result


def _match(name: str, known: dict[str, object]) -> str:
    """Returns the scanned layer of this name; a copy's paths may lack the name of the model."""
    found = [x for x in known if x == name] or [
        x for x in known if x.endswith(f"/{name}") or name.endswith(f"/{x}")
    ]
    if len(found) != 1:
        raise registry.unknown("layer of the scan", name, known)
    return found[0]
