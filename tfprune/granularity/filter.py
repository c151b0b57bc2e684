"""Whole filters: all weights that make one output channel."""

import numpy as np


def unroll(array: np.ndarray) -> np.ndarray:
    """Returns one row an output, (outputs, spatial * inputs)."""
    return array.reshape(-1, array.shape[-1]).T


def fold(keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the mask of the kept filters."""
    return np.broadcast_to(keep, shape)
