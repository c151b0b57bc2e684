"""Global ranking of layer-adaptive scores: LAMP's normalisation of any criterion.

With magnitude it is LAMP itself (Lee et al. 2021, arXiv 2010.07611).
"""

from collections.abc import Sequence

import numpy as np

from tfprune.allocation import Layer
from tfprune.criteria.magnitude.lamp import normalise


def keys(layers: Sequence[Layer]) -> list[np.ndarray]:
    """Returns each squared score over the sum of its own and all higher ones in its layer."""
    return [
        # Scores may be negative (a change of the loss, say): ranks must not change by squaring.
        normalise(np.square(layer.scores - np.float64(min(layer.scores.min(), 0))))
        for layer in layers
    ]
