"""Dropping the smallest weights of each kernel, and growing as many elsewhere in it."""

from collections.abc import Callable

import numpy as np

from tfprune import masks
from tfprune.graph import kernels as k
from tfprune.sparse_training._training import Training


def rewire(
    training: Training, share: float, promise: Callable[[k.Kernel], np.ndarray]
) -> masks.Masks:
    """Exchanges units of each kernel: its sparsity stays.

    Args:
      training: its level is met first, where the schedule raises it.
      share: how much of what each kernel has is dropped, by magnitude.
      promise: kernel -> array of its canonical shape: where it is highest, as many units grow,
        which may be some of those just dropped. They start from zero.
    """
    recipe, masks_now = training.plan.recipe, training.prune()
    if not share:
        return masks_now
    changed = {}
    for kernel in training.plan.kernels:
        view = recipe.granularity
        active = view("unroll", kernel.canonical(masks_now[kernel.name])).any(axis=1)
        size = training.by_unit(kernel, np.abs(kernel.read()))
        count = min(int(share * active.sum()), int((~active).sum()))
        keeps = _highest(np.where(active, size, -np.inf), int(active.sum()) - count)
        grown = _highest(np.where(keeps, -np.inf, training.by_unit(kernel, promise(kernel))), count)
        changed[kernel.name] = kernel.restore(view("fold", keeps | grown, kernel.shape))
    return training.adopt(changed)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns where the `count` highest are, equals by position."""
    result = np.zeros(len(values), bool)
    result[np.argsort(-values, kind="stable")[:count]] = True
    return result
