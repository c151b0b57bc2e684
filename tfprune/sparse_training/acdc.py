"""AC/DC: compressed and dense training take turns.

Peste et al. 2021 (arXiv 2106.12379): iterative hard thresholding in phases. In a dense phase all
weights train; each compressed phase keeps the highest as they then are, whatever was pruned in
the one before; the last is compressed. When a dense phase begins, the optimizer's momenta are
those of the compressed one, zero for what was pruned. The schedule is "alternating".
"""

from tfprune import masks
from tfprune.sparse_training import Training
from tfprune.sparse_training._taps import Sparse as tap  # noqa: F401 (of the method)

SCHEDULE = "alternating"
REFUSES = ("channel",)


def update(training: Training) -> masks.Masks:
    """Prunes, or lets all weights train."""
    return training.prune()
