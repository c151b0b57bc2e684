"""SET: drops the smallest weights and grows as many at random.

Sparse evolutionary training (Mocanu et al. 2018, arXiv 1707.04780). Each update exchanges a share
`drop` of every kernel's weights: those nearest to zero go, others come anywhere, from zero; the
last update drops none. Sparsity is constant unless the schedule raises it. The paper shares it as
Erdos and Renyi's random graphs do (allocation "erk" extends it to convolutions) and updates once an
epoch.
"""

import numpy as np

from tfprune import masks
from tfprune.graph import kernels as k
from tfprune.sparse_training import Training
from tfprune.sparse_training._rewiring import rewire
from tfprune.sparse_training._taps import Sparse as tap  # noqa: F401 (of the method)

SCHEDULE = "constant"
REFUSES = ("channel", "n_m")


def update(training: Training, *, drop: float = 0.3) -> masks.Masks:
    """Exchanges the share, of other weights at each update."""
    index = {kernel.name: i for i, kernel in enumerate(training.plan.kernels)}

    def anywhere(kernel: k.Kernel) -> np.ndarray:
        seed = [training.plan.recipe.seed, training.step, index[kernel.name]]
        return np.random.default_rng(seed).random(kernel.shape)

    share = drop if training.step and training.progress < 1 else 0.0
    return rewire(training, share, anywhere)
