"""From what stands for what to one order of removal.

A unit's score is the distance to what stands for it once it is gone, in the order in which units
go. So that one sort gives this order, and every target's mask lies inside a lower one's, a unit
that goes later never scores lower. Zero units go before all else: they do nothing.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from threadpoolctl import ThreadpoolController


def alive(units: np.ndarray) -> np.ndarray:
    """Returns the positions of units that are not zero; of the first if all are."""
    return np.flatnonzero(units.any(axis=1)) if units.any() else np.array([0])


def distinct(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions of units that differ, and of zeros and copies of those before them."""
    first = {}
    for position in alive(units):
        # -0.0 and 0.0 are one number, but not the same bytes.
        first.setdefault((units[position] + 0.0).tobytes(), position)
    kept = np.fromiter(first.values(), int)
    return kept, np.setdiff1d(np.arange(len(units)), kept)


def scores(order: Iterable[int], heights: Iterable[float]) -> np.ndarray:
    """Returns the units' scores, (n_units,): the heights, but always rising.

    Args:
      order: the units, the first to go first.
      heights: what each loses when it goes, 0 or more.
    """
    order = list(order)
    result, highest = np.empty(len(order)), -_LEAST
    for unit, height in zip(order, heights, strict=True):
        # A little more than the one before it: equals would be sorted by position.
        highest = result[unit] = max(height, highest * (1 + 1e-9) + _LEAST)
    return result


def from_zero(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Returns scores moved so that the `kept` units have 0 or more, and all before them less."""
    return values - values[kept].min()


def at_least(least: int, **option: object) -> None:
    """Checks a number of units; raises ValueError if it is none, or below `least`."""
    ((name, value),) = option.items()
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r}: a number of units, {least} or more, is needed")


def positive(**option: object) -> None:
    """Checks a number that may be None; raises ValueError if it is none, or not above 0."""
    ((name, value),) = option.items()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and value > 0):
        raise ValueError(f"{name}={value!r}: a number above 0 is needed")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps scikit-learn from warning, and to one thread.

    It warns of points too near to each other for so many clusters; filters may well be, and then
    any partition of them will do. More threads gain nothing at 512 units, since the steps are
    small, and where another process wants the cores they wait for each other: ten times as long.
    """
    with warnings.catch_warnings(), _pools().limit(limits=1):
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _pools() -> ThreadpoolController:
    """Returns the threads of libraries; to find these takes a hundred times as long as to limit."""
    return ThreadpoolController()


# Tells scores of 0 apart, and is lost in any other.
_LEAST = 1e-30
