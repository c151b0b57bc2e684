"""How much the nuclear norm of a layer's feature maps falls without each output channel.

With A (channels, positions) the maps of one example and a_i a row, it is the mean over examples of
||A||_* - ||A without a_i||_* (Sui et al. 2021, arXiv 2110.13981).

One eigendecomposition serves all channels. The nuclear norm is the sum of the roots of the
eigenvalues l_j of AT A; removing a row subtracts a_i a_iT from it. With
sqrt(l) = 1/pi times the integral over s > 0 of log(1 + l / s^2), the sum over all eigenvalues is
that of a log-determinant, and the determinant lemma leaves

    -1/pi times the integral over s > 0 of log(1 - sum over j of e_ij / (l_j + s^2))

with e_ij = (a_i v_j)^2 the share of row i in l_j, v_j the eigenvectors. In log(s) the integrand is
smooth and falls off on both sides, where the trapezoidal rule converges exponentially: it is good
to 1e-7 of ||A||_* and takes as long as one or two more decompositions.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs, _pairs

refuses = _outputs.refuses

# Steps in log(s) of exp(-pi^2 / step) = 2e-11, from and to where less than that is left.
_STEP = 0.4
_PLACES = np.exp(np.arange(-24, 24, _STEP))


def collect(
    calibration: Calibration, kernels: Sequence[Kernel], *, examples: int = 640
) -> dict[str, np.ndarray]:
    """Returns the mean independence over the first `examples`, (outputs,).

    Raises:
      ValueError: if that is none.
    """
    if examples < 1:
        raise ValueError(f"examples={examples}: one or more are needed")
    return _pairs.mean(calibration, kernels, _independence, examples=examples)


def _independence(a: tf.Tensor) -> tf.Tensor:
    """Returns by how much the nuclear norm falls without each output, (n, outputs)."""
    energies = _energies(tf.transpose(a, (0, 2, 1)))
    squares = tf.reduce_sum(energies, axis=1)
    largest = tf.sqrt(tf.reduce_max(squares, axis=1))
    places = tf.where(largest > 0, largest, 1.0)[:, None] * _PLACES
    shares = energies @ (1 / (squares[:, :, None] + tf.square(places)[:, None]))
    logs = tf.math.log(tf.maximum(1 - shares, np.finfo(np.float64).eps))
    return -_STEP / np.pi * tf.linalg.matvec(logs, places)


def _energies(a: tf.Tensor) -> tf.Tensor:
    """Returns the squares of what rows have of the singular vectors, (n, rows, min(sizes)).

    Args:
      a: (n, rows, columns).
    """

    def from_columns() -> tf.Tensor:
        return tf.square(a @ tf.linalg.eigh(tf.matmul(a, a, transpose_a=True))[1])

    def from_rows() -> tf.Tensor:
        values, vectors = tf.linalg.eigh(tf.matmul(a, a, transpose_b=True))
        return tf.square(vectors) * tf.maximum(values, 0.0)[:, None]

    return tf.cond(tf.shape(a)[1] > tf.shape(a)[2], from_columns, from_rows)
