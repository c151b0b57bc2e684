"""Erdos-Renyi-Kernel: a layer's density falls with its size.

density = eps * (sum of the kernel's dimensions) / (their product), at most 1
(Evci et al. 2020, RigL, arXiv 1911.11134).
"""

from collections.abc import Sequence

import numpy as np

from tfprune.allocation import Layer, quantiles


def keys(layers: Sequence[Layer]) -> list[np.ndarray]:
    """Returns minus the eps below which each unit goes.

    A unit at quantile q goes as soon as its layer's density falls under 1 - q; the cap at 1 needs
    no case of its own, since q is above 0.
    """
    shapes = [layer.kernel.shape for layer in layers]
    raw = [np.sum(shape) / np.prod(shape) for shape in shapes]
    return [-(1 - quantiles(layer)) / r for layer, r in zip(layers, raw, strict=True)]
