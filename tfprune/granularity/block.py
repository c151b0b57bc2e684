"""Blocks of h inputs by w outputs in the kernel's matrix view (spatial * inputs, outputs).

TFLite stores the transpose: its 1x4 blocks of a Dense layer are `block(4, 1)` here. XNNPACK's fast
sparse kernels want groups of outputs, `block(1, 4)` (Elsen et al. 2019, arXiv 1911.09723).
"""

import numpy as np


def unroll(array: np.ndarray, *, h: int = 1, w: int = 4) -> np.ndarray:
    """Returns one row a block, (blocks, h * w), blocks in row order, zeros beyond the edges."""
    matrix = array.reshape(-1, array.shape[-1])
    matrix = np.pad(matrix, [(0, -matrix.shape[0] % h), (0, -matrix.shape[1] % w)])
    rows, columns = matrix.shape[0] // h, matrix.shape[1] // w
    return matrix.reshape(rows, h, columns, w).swapaxes(1, 2).reshape(-1, h * w)


def fold(keep: np.ndarray, shape: tuple[int, ...], *, h: int = 1, w: int = 4) -> np.ndarray:
    """Returns the mask of the kept blocks."""
    inputs, outputs = int(np.prod(shape[:-1])), shape[-1]
    grid = keep.reshape(-(-inputs // h), -(-outputs // w))
    return grid.repeat(h, axis=0).repeat(w, axis=1)[:inputs, :outputs].reshape(shape)


def refuses(shape: tuple[int, ...], *, h: int = 1, w: int = 4) -> str:
    """Returns an error for sizes that are no sizes."""
    if not (isinstance(h, int) and isinstance(w, int) and h > 0 and w > 0):
        raise ValueError(f"granularity block({h}, {w}): h and w are whole numbers above 0")
    return ""
