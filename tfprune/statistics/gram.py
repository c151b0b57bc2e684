"""Gram matrix of what a kernel multiplies: the sum over positions of x xT, averaged over examples.

The mean squared error that a change d of the weights makes in the layer's output is then
trace(dT gram d), the quadratic form of layer-wise pruning (Dong et al. 2017, arXiv 1705.07565).
"""

import logging
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import taps
from tfprune.graph.kernels import Kernel
from tfprune.statistics._inputs import summed

log = logging.getLogger("tfprune")

refuses = taps.refuses

# How many layers a warning names.
_SHOWN = 10


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns (groups, rows, rows) of each kernel; rows are (*spatial, inputs)."""
    found = summed(
        calibration,
        kernels,
        _products,
        floats=lambda kernel, positions: (
            positions * taps.groups(kernel) * math.prod(kernel.shape[:-1])
        ),
    )
    singular = {
        kernel.layer.name: _singular(found[kernel.name])
        for kernel in kernels
        if kernel.name in found
    }
    if named := [f"{layer} ({why})" for layer, why in singular.items() if why]:
        shown = ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")
        log.warning("%d Gram matrices are singular, and damped for it: %s", len(named), shown)
    return found


def _products(kernel: Kernel, x: tf.Tensor) -> tf.Tensor:
    parts = taps.windows(kernel, x)
    count = taps.groups(kernel)
    if count == 1:
        rows = tf.concat([tf.reshape(part, (-1, part.shape[-1])) for part in parts], axis=1)
        return tf.matmul(rows, rows, transpose_a=True)[None]
    # Groups first: a batch of products of long rows is several times as fast as of short ones.
    turned = [tf.transpose(part, (2, 3, 0, 1)) for part in parts]
    rows = [tf.reshape(part, (count, part.shape[1], -1)) for part in turned]
    rows = tf.concat(rows, axis=1)
    return tf.matmul(rows, rows, transpose_b=True)


def _singular(gram: np.ndarray) -> str:
    """Returns why a Gram matrix (of any group) has no inverse, or an empty string."""
    diagonal = np.einsum("gii->gi", gram)
    if dead := int((diagonal == 0).sum()):
        return f"{dead} of {diagonal.size} inputs are never active"
    if not np.isfinite(gram).all():
        return ""  # an error soon enough
    rounding = np.finfo(np.float32).eps * gram.shape[-1] * np.eye(gram.shape[-1])
    try:
        factor = np.linalg.cholesky(gram / diagonal.mean(axis=1)[:, None, None] + rounding)
    except np.linalg.LinAlgError:
        return "inputs depend on each other"
    lowest = np.square(np.einsum("gii->gi", factor)).min()
    return "inputs depend on each other" if lowest < 10 * rounding[0, 0] else ""
