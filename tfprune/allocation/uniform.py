"""The same sparsity in every layer, rounded in each, as TFMOT does.

Zhu & Gupta 2017 (arXiv 1710.01878).
"""

from collections.abc import Sequence

import numpy as np

from tfprune.allocation import Layer, quantiles

LEVELS = True


def keys(layers: Sequence[Layer]) -> list[np.ndarray]:
    """Returns each unit's rank in its layer, as a share of the layer's weights."""
    return [quantiles(layer) for layer in layers]
