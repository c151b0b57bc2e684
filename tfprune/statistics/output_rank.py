"""Rank of the feature maps of each output channel, as matrices, averaged over examples.

A map of several axes of positions is a matrix of the first by all others, (height, width) of an
image; one of a sequence or a vector has a rank of 1 unless all of it is zero.
"""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _outputs

refuses = _outputs.refuses


def collect(
    calibration: Calibration, kernels: Sequence[Kernel], *, examples: int = 500
) -> dict[str, np.ndarray]:
    """Returns the mean rank over the first `examples`, (outputs,).

    Raises:
      ValueError: if that is none.
    """
    if examples < 1:
        raise ValueError(f"examples={examples}: one or more are needed")
    few = Calibration(calibration.model, _first(calibration, examples))
    return _outputs.mean(few, kernels, _ranks)


def _ranks(a: tf.Tensor) -> tf.Tensor:
    """Returns the rank of each map, (n, outputs)."""
    sizes = tf.shape(a)
    height = sizes[1] if len(a.shape) > 2 else 1
    matrices = tf.reshape(tf.cast(a, tf.float32), (sizes[0], height, -1, a.shape[-1]))
    matrices = tf.transpose(matrices, (0, 3, 1, 2))
    # Twice as fast as TensorFlow's own singular values.
    ranks = tf.numpy_function(np.linalg.matrix_rank, [matrices], tf.int64)
    return tf.cast(tf.ensure_shape(ranks, (None, a.shape[-1])), tf.float32)


def _first(calibration: Calibration, count: int) -> Iterator[tuple]:
    """Yields the first examples, batch by batch."""
    for x, _ in calibration.examples():
        yield (keras.tree.map_structure(lambda a, n=count: a[:n], x),)
        count -= len(keras.tree.flatten(x)[0])
        if count <= 0:
            return
