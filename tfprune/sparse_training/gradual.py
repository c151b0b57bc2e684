"""Gradual pruning: at each update the lowest go, up to the sparsity that the schedule says.

Zhu & Gupta 2017 (arXiv 1710.01878), whose criterion is the magnitude, whose schedule is
"polynomial", and which prunes all layers alike (allocation "uniform"). What is pruned stays so.
"""

from tfprune import masks
from tfprune.sparse_training import Training


def update(training: Training) -> masks.Masks:
    """Prunes to the level."""
    return training.prune()
