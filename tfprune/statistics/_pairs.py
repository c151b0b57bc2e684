"""Sums over feature maps as matrices in float64, and what becomes of the products of all pairs."""

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs

# What varies by less than this share of its size is constant: float32 holds seven digits.
CONSTANT = 1e-6


def mean(
    calibration: Calibration,
    kernels: Sequence[Kernel],
    value: Callable[[tf.Tensor], tf.Tensor],
    *,
    examples: int | None = None,
    least: int = 1,
) -> dict[str, np.ndarray]:
    """Returns {kernel name: mean over examples of `value`}, as `_outputs.mean`.

    Args:
      calibration: the model and its data.
      kernels: those to look at.
      value: takes maps (n, positions, outputs) in float64, of as many examples as fit in memory,
        and returns values (n, ...), or (1, ...) which are their sum.
      examples: how many of the first to look at; all if None.
      least: how many `value` needs at a time.

    Raises:
      ValueError: if no batch of the data has as many as that.
    """
    # Two copies, of twice the size each.
    size = calibration.batch_size(kernels, lambda kernel, count: 4 * count * kernel.shape[-1])
    parts = _parts(calibration, max(size, least), examples, least)
    few = Calibration(calibration.model, parts)
    return _outputs.mean(few, kernels, lambda a: value(_matrices(a)))


def moments(a: tf.Tensor) -> tf.Tensor:
    """Returns the sum of [a, 1]T [a, 1] over examples and positions, (1, outputs + 1, same)."""
    rows = tf.reshape(a, (-1, a.shape[-1]))
    rows = tf.pad(rows, [(0, 0), (0, 1)], constant_values=1.0)
    return tf.matmul(rows, rows, transpose_a=True)[None]


def cosines(products: np.ndarray, sizes: np.ndarray | None = None) -> np.ndarray:
    """Returns products_ij / sqrt(products_ii products_jj), (n, n): 0 where i or j is constant.

    Args:
      products: inner products of all pairs, (n, n).
      sizes: squares to which a constant's are nothing, (n,); none if None.
    """
    squares = np.diag(products)
    alive = squares > (0 if sizes is None else np.square(CONSTANT) * sizes)
    lengths = np.sqrt(np.where(alive, squares, 1.0))
    return np.where(np.outer(alive, alive), products / np.outer(lengths, lengths), 0.0)


def _matrices(a: tf.Tensor) -> tf.Tensor:
    """Returns feature maps (n, *positions, outputs) as (n, positions, outputs), in float64."""
    sizes = tf.shape(a)
    shape = (sizes[0], tf.reduce_prod(sizes[1:-1]), a.shape[-1])
    return tf.cast(tf.reshape(a, shape), tf.float64)


def _parts(
    calibration: Calibration, size: int, examples: int | None, least: int
) -> Iterator[tuple]:
    """Yields the first examples, batch by batch, and sees to it that one has enough of them."""
    left, largest = examples, 0
    for x, _ in calibration.examples(batch_size=size):
        part = keras.tree.map_structure(lambda a, n=left: a[:n], x)
        yield (part,)
        count = len(keras.tree.flatten(part)[0])
        largest = max(largest, count)
        if left is not None:
            left -= count
            if left <= 0:
                break
    if largest < least:
        raise ValueError(
            f"the calibration data comes in batches of {largest}: one of {least} examples or more "
            "is needed"
        )
