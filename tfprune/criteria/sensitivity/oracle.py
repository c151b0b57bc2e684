"""Oracle: the change of the loss when a unit is masked, measured; leave one unit out.

L(without the unit) - L, over all calibration examples: the relevance of skeletonization, before it
is approximated (Mozer & Smolensky 1989, NeurIPS 1). It takes a pass over the data for every unit;
`bandit` estimates the same from fewer.
"""

import logging
import time

import numpy as np

log = logging.getLogger("tfprune")


def score(trial: object) -> np.ndarray:
    """Returns the mean change of the loss, one a unit; below zero where it falls.

    Args:
      trial: a `tfprune.planning.trial.Trial`.
    """
    begun, total, seen = time.monotonic(), np.zeros(trial.count), 0
    for x, y in trial.examples():
        total += trial.on(x, y)(np.arange(trial.count)).sum(axis=1, dtype=np.float64)
        seen += len(y)
    log.info(
        "%s: %d units tried on %d examples in %.0f s",
        " and ".join(kernel.layer.name for kernel in trial.kernels),
        trial.count,
        seen,
        time.monotonic() - begun,
    )
    return total / seen
