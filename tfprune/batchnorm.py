"""Batch-norm statistics estimated again, as pruning shifts what the layers before put out."""

import contextlib
import itertools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfprune import batches
from tfprune.graph import trace


def reestimate_batchnorm(model: keras.Model, data: object, *, limit: int = 50) -> int:
    """Sets the statistics of all batch normalisations to the mean over some batches.

    Each batch is normalised by its own mean and variance, as in training, with dropout off; the
    statistics are the averages of the first and second moments over the batches. Nothing else of
    the model changes.

    Args:
      model: a built model, changed in place.
      data: a tf.data.Dataset of (x, ...) batches, or arrays: x or (x, y).
      limit: the most batches to use.

    Returns:
      The number of batches used; 0 where the model has no batch normalisation.
    """
    norms = [
        layer
        for layer in trace.layers(model)
        # A frozen one keeps its statistics in training too.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not norms:
        return 0
    means = [np.zeros(n.moving_mean.shape) for n in norms]
    squares = [np.zeros(n.moving_variance.shape) for n in norms]
    before = [(n.moving_mean.numpy(), n.moving_variance.numpy()) for n in norms]
    count = 0
    try:
        with _settings(norms, "momentum", 0.0), _settings(_droppers(model), "rate", 0.0):
            # Traced inside the block, since the momentum is a constant of the graph.
            step = tf.function(lambda x: model(x, training=True), reduce_retracing=True)
            for x, _ in itertools.islice(batches.pairs(data), limit):
                step(x)
                count += 1
                for i, norm in enumerate(norms):
                    mean = norm.moving_mean.numpy()
                    means[i] += mean
                    squares[i] += norm.moving_variance.numpy() + np.square(mean)
        if not count:
            raise ValueError("no batches to estimate batch-norm statistics from: data is empty")
        before = [
            (m / count, np.maximum(s / count - np.square(m / count), 0.0))
            for m, s in zip(means, squares, strict=True)
        ]
    finally:
        for norm, (mean, variance) in zip(norms, before, strict=True):
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)
    return count


def _droppers(model: keras.Model) -> list[keras.layers.Layer]:
    return [
        layer for layer in trace.layers(model) if isinstance(getattr(layer, "rate", None), float)
    ]


@contextlib.contextmanager
def _settings(layers: list[keras.layers.Layer], name: str, value: float) -> Iterator[None]:
    """Sets an attribute of all layers inside the block."""
    before = [getattr(layer, name) for layer in layers]
    try:
        for layer in layers:
            setattr(layer, name, value)
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            setattr(layer, name, old)
