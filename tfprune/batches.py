"""Batches from whatever `fit` takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    Data = tf.data.Dataset | Iterable | tuple


def pairs(data: Data, *, batch_size: int = 256) -> Iterator[tuple]:
    """Yields NumPy batches (x, y); y is None where there is none.

    Args:
      data: an array or a dict or list of arrays (inputs alone), a tuple (x, y), or an iterable
        of batches: x, or tuples (x, y).
      batch_size: examples at a time where `data` holds arrays.

    Raises:
      ValueError: if a tuple is empty.
    """
    import keras

    def arrays(part: object) -> object:
        return keras.tree.map_structure(np.asarray, part)

    def pair(item: object) -> tuple:
        if not isinstance(item, tuple):
            return arrays(item), None
        if not item:
            raise ValueError("the data has an empty tuple where (x, y) was expected")
        return arrays(item[0]), arrays(item[1]) if len(item) > 1 and item[1] is not None else None

    if not (isinstance(data, tuple | np.ndarray | dict) or _is_arrays(data)):
        yield from map(pair, data)
        return
    x, y = pair(data)
    sizes = {len(part) for part in keras.tree.flatten((x, y)) if part is not None}
    if len(sizes) != 1:
        raise ValueError(f"inputs and labels differ in length: {sorted(sizes)}")
    for start in range(0, sizes.pop(), batch_size):
        rows = slice(start, start + batch_size)
        yield _take(x, rows), None if y is None else _take(y, rows)


def _take(arrays: object, rows: slice) -> object:
    import keras

    return keras.tree.map_structure(lambda part: part[rows], arrays)


def _is_arrays(data: object) -> bool:
    """Returns whether `data` is a list of arrays, one an input, and not one of (x, y) batches."""
    return (
        isinstance(data, list) and bool(data) and all(isinstance(part, np.ndarray) for part in data)
    )
