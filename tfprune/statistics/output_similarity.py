"""Similarity of the feature maps of each two output channels: their cosine, or linear CKA.

CKA (Kornblith et al. 2019, arXiv 1905.00414) compares the kernel matrices K = X XT of two channels,
X (examples, positions), by the Hilbert-Schmidt independence criterion:

    CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))

Each HSIC is a sum over batches (Nguyen et al. 2021, arXiv 2010.15327) of n (n - 3) times the
unbiased estimate (Song et al. 2012), so that the size of the batches does not shift it. This
is the inner product of the two matrices without their diagonals, each made free of the means of
its rows and columns (Székely & Rizzo 2014, arXiv 1310.2926).
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune import registry
from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs, _pairs

refuses = _outputs.refuses

# Fewer examples have no unbiased estimate.
_LEAST = 4


def collect(
    calibration: Calibration, kernels: Sequence[Kernel], *, similarity: str = "cosine"
) -> dict[str, np.ndarray]:
    """Returns the similarities, (outputs, outputs); all of a channel's is 0 if it has none.

    Args:
      calibration: the model and its data.
      kernels: those to look at.
      similarity: "cosine", over examples and positions, or "cka".

    Raises:
      ValueError: for another, or if CKA is asked of batches of less than four examples.
    """
    if similarity == "cosine":
        found = _pairs.mean(calibration, kernels, _pairs.moments)
        return {name: _pairs.cosines(sums[:-1, :-1]) for name, sums in found.items()}
    if similarity == "cka":
        found = _pairs.mean(calibration, kernels, _alignments, least=_LEAST)
        return {name: _pairs.cosines(products) for name, products in found.items()}
    raise registry.unknown("similarity", str(similarity), ("cosine", "cka"))


def _alignments(a: tf.Tensor) -> tf.Tensor:
    """Returns n (n - 3) HSIC of all pairs of channels in a batch, (1, outputs, outputs)."""
    # Means over examples don't matter to HSIC; without them, little is lost to rounding.
    moved = a - tf.reduce_mean(a, axis=0)
    energy, own = (tf.reduce_sum(tf.square(x), axis=(0, 1)) for x in (a, moved))
    x = tf.transpose(tf.where(own > _pairs.CONSTANT**2 * energy, moved, 0.0), (2, 0, 1))
    n = tf.shape(x)[1]
    count, others = tf.cast(n, a.dtype), 1 - tf.eye(n, dtype=a.dtype)
    kernel = tf.matmul(x, x, transpose_b=True) * others
    rows = tf.reduce_sum(kernel, axis=2, keepdims=True) / tf.maximum(count - 2, 1)
    whole = tf.reduce_sum(rows, axis=1, keepdims=True) / tf.maximum(count - 1, 1)
    kernel = (kernel - rows - tf.transpose(rows, (0, 2, 1)) + whole) * others
    flat = tf.reshape(kernel, (a.shape[-1], n * n)) * tf.cast(n >= _LEAST, a.dtype)
    return tf.matmul(flat, flat, transpose_b=True)[None]
