"""Uniform, but the first convolution stays dense and the last dense layer keeps 20 %.

"Uniform+" of Gale et al. 2019 (arXiv 1902.09574); the other layers make up for it.
"""

from collections.abc import Sequence

import keras
import numpy as np

from tfprune.allocation import Layer, quantiles


def keys(layers: Sequence[Layer], *, last: float = 0.2) -> list[np.ndarray]:
    """Returns uniform's keys, infinite for what must stay.

    Args:
      layers: the layers, first to last.
      last: the share of its weights that the last dense layer keeps.
    """
    result = [quantiles(layer) for layer in layers]
    convolutions = [i for i, layer in enumerate(layers) if len(layer.kernel.shape) > 2]
    dense = [
        i for i, layer in enumerate(layers) if isinstance(layer.kernel.layer, keras.layers.Dense)
    ]
    if convolutions:
        result[convolutions[0]][:] = np.inf
    if dense:
        units = result[dense[-1]]
        units[units > 1 - last] = np.inf
    return result
