"""N:M sparsity: at least n of every m consecutive input channels stay (2:4 and the like).

Units are single weights; what makes the pattern is that the n best of each group must stay. Asked
for a sparsity of 1 - n/m, every group therefore ends with exactly n weights, and on the way there
(a schedule, a milder target) no group ever has fewer (Mishra et al. 2021, arXiv 2104.08378).
"""

import numpy as np


def unroll(array: np.ndarray, *, n: int = 2, m: int = 4) -> np.ndarray:
    """Returns the weights, (size, 1), the input channel running fastest, whatever n and m."""
    return array.swapaxes(-1, -2).reshape(-1, 1)


def fold(keep: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the mask of the kept weights."""
    *spatial, inputs, outputs = shape
    return keep.reshape(*spatial, outputs, inputs).swapaxes(-1, -2)


def stays(scores: np.ndarray, *, n: int = 2, m: int = 4) -> np.ndarray:
    """Returns the n best-scored of each m, the earlier one first among equals."""
    groups = scores.reshape(-1, m)
    best = np.argsort(-groups, axis=1, kind="stable")[:, :n]
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, best, True, axis=1)
    return mask.ravel()


def refuses(shape: tuple[int, ...], *, n: int = 2, m: int = 4) -> str:
    """Returns why a kernel of this shape can't have the pattern, or an empty string."""
    if not (isinstance(n, int) and isinstance(m, int) and 0 < n < m):
        raise ValueError(f"granularity n_m({n}, {m}): n and m are whole numbers with 0 < n < m")
    inputs = shape[-2]
    return f"{inputs} input channels are no multiple of {m}" if inputs % m else ""


def pattern(*, n: int = 2, m: int = 4) -> tuple[int, int]:
    """Returns n and m, for criteria that choose weights one after another."""
    return n, m
