"""Single weights (unstructured pruning)."""

import numpy as np


def unroll(array: np.ndarray) -> np.ndarray:
    """Returns the weights, (n, 1)."""
    return array.reshape(-1, 1)


def fold(keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the mask of the kept weights."""
    return keep.reshape(shape)
