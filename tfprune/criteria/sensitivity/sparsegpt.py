"""SparseGPT: weights go in one sweep over a kernel's rows (Frantar & Alistarh 2023).

arXiv 2301.00774. U is the upper Cholesky factor of H^-1 = UT U, H the damped Gram matrix of the
layer's inputs. In row c (a column of the paper's weight matrix) a weight's score is

    w_c^2 / U_cc^2

and the rows behind make up for those that go: w_j -= w_c / U_cc U_cj for j > c, at once within a
block of rows, and for all rows behind it when the block is done. Which weights go is settled anew
at the begin of each block by the weights as they are then, with the same share in every block; in
n:m granularity at the begin of each m rows.

How many weights of a kernel go is settled by the scores before the sweep. They are shares of the
error without the whole kernel, wT H w, since errors of different layers, each in its own scale,
can't be ranked together.
"""

import numpy as np
import scipy.linalg

from tfprune import linalg

GRANULARITIES = ("weight", "n_m")


def score(
    weight: np.ndarray, gram: np.ndarray, *, block: int = 128, damping: float = linalg.DAMPING
) -> np.ndarray:
    """Returns w^2 / U_cc^2 over the kernel's sum of wT H w, before the sweep, one a weight.

    Raises:
      ValueError: for a block of no rows.
    """
    if block < 1:
        raise ValueError(f"sparsegpt(block={block}): a number of rows above 0 is needed")
    diagonal = np.einsum("gii->gi", _factors(gram, damping))
    rows = linalg.matrix(weight.astype(np.float64), len(gram)) / diagonal[..., None]
    return linalg.shares(np.square(rows) / 2, weight, gram, damping=damping)


def correct(
    weight: np.ndarray,
    mask: np.ndarray,
    gram: np.ndarray,
    pattern: tuple[int, int] | None,
    *,
    block: int = 128,
    damping: float = linalg.DAMPING,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights after the sweep, and the mask that it settled.

    As many weights go as `mask` removes: of each group of a grouped convolution, and of each m in
    n:m granularity. Those that are zero already are among them.
    """
    old, keep = (linalg.matrix(array, len(gram)) for array in (weight, mask))
    pairs = zip(old, keep, _factors(gram, damping), strict=True)
    swept = [_sweep(w, stays, factor, pattern, block) for w, stays, factor in pairs]
    new, masks = (
        linalg.unmatrix(np.stack(part), weight.shape) for part in zip(*swept, strict=True)
    )
    return new, masks


def _factors(gram: np.ndarray, damping: float) -> np.ndarray:
    inverses = linalg.inverses(gram, damping=damping)
    return np.stack([scipy.linalg.cholesky(inverse) for inverse in inverses])


def _sweep(
    weight: np.ndarray,
    keep: np.ndarray,
    factor: np.ndarray,
    pattern: tuple[int, int] | None,
    block: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns one group's weights and mask, (rows, outputs)."""
    w = weight.astype(np.float64)
    gone = np.zeros(keep.shape, bool)
    held = ~keep & (weight == 0)
    m = pattern[1] if pattern else block
    step = max(block // m, 1) * m
    starts = range(0, len(w), m)
    if pattern:
        counts = [(~keep[i : i + m]).sum(axis=0) for i in starts]
    else:
        counts = _counts([~keep[i : i + m] for i in starts], [held[i : i + m] for i in starts])
    for start in range(0, len(w), step):
        stop = min(start + step, len(w))
        errors = np.zeros((stop - start, w.shape[1]))
        for i in range(start, stop):
            if i % m == 0:
                rows = slice(i, min(i + m, stop))
                scores = np.square(w[rows] / np.diag(factor)[rows, None])
                scores[held[rows]] = -1
                gone[rows] = _lowest(scores, counts[i // m], axis=0 if pattern else None)
            errors[i - start] = np.where(gone[i], w[i], 0) / factor[i, i]
            w[i:stop] -= np.outer(factor[i, i:stop], errors[i - start])
        w[stop:] -= factor[start:stop, stop:].T @ errors
    return np.where(gone, 0, w), ~gone


def _counts(removed: list[np.ndarray], held: list[np.ndarray]) -> np.ndarray:
    """Returns how many weights go of each block: the same share of those not gone yet."""
    before = np.array([part.sum() for part in held])
    free = np.cumsum([part.size for part in held] - before)
    new = sum(part.sum() for part in removed) - before.sum()
    until = (new * free + free[-1] // 2) // max(free[-1], 1)
    return before + np.diff(until, prepend=0)


def _lowest(scores: np.ndarray, count: np.ndarray, axis: int | None) -> np.ndarray:
    """Returns which are the `count` lowest, along an axis or of all."""
    ranks = np.argsort(np.argsort(scores, axis=axis, kind="stable"), axis=axis)
    return (ranks < count).reshape(scores.shape)
