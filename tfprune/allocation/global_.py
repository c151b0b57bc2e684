"""One ranking over all layers (Han et al. 2015; "global magnitude" in Blalock et al. 2020)."""

from collections.abc import Sequence

import numpy as np

from tfprune.allocation import Layer


def keys(layers: Sequence[Layer]) -> list[np.ndarray]:
    """Returns the scores as they are."""
    return [layer.scores for layer in layers]
