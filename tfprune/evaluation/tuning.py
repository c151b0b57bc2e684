"""Training as the protocol has it: the loss that fits, one optimizer, a cosine to zero."""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from tfprune import losses, registry

_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
}


def compile_for(
    model: keras.Model,
    data: tf.data.Dataset,
    *,
    steps: int | None,
    learning_rate: float = 1e-3,
    optimizer: str = "adam",
) -> keras.losses.Loss:
    """Compiles `model` for a training of `steps` steps, and returns the loss.

    Args:
      model: the model.
      data: batches (x, y), of which the first tells which loss fits.
      steps: after which the learning rate is 0; None keeps it as it is.
      learning_rate: at the first step; it falls along a cosine (Loshchilov & Hutter 2017,
        arXiv 1608.03983).
      optimizer: "adam", or "sgd" with Nesterov momentum 0.9.

    Raises:
      ValueError: for another optimizer, or labels that don't fit.
    """
    if optimizer not in _OPTIMIZERS:
        raise registry.unknown("optimizer", optimizer, _OPTIMIZERS)
    x, y = next(iter(data))
    loss = losses.fitting(model, y.numpy(), model(x).numpy())
    binary = isinstance(loss, keras.losses.BinaryCrossentropy)
    accuracy = keras.metrics.BinaryAccuracy if binary else keras.metrics.SparseCategoricalAccuracy
    rate = learning_rate
    if steps is not None:
        rate = keras.optimizers.schedules.CosineDecay(learning_rate, max(1, steps))
    model.compile(_OPTIMIZERS[optimizer](rate), loss, metrics=[accuracy(name="top1")])
    return loss


def tune(
    model: keras.Model,
    train: tf.data.Dataset,
    *,
    steps: int,
    learning_rate: float,
    optimizer: str = "adam",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains `model` for exactly so many steps; the weights are those of the last one.

    Args:
      model: the model.
      train: batches (x, y) of one pass; it is repeated.
      steps: how many; the learning rate falls to 0.
      learning_rate: at the first of them.
      optimizer: as in `compile_for`.
      callbacks: for `fit`.

    Raises:
      ValueError: if the loss is no longer finite.
    """
    compile_for(model, train, steps=steps, learning_rate=learning_rate, optimizer=optimizer)
    if not steps:
        return
    stop = keras.callbacks.TerminateOnNaN()
    batches = train.repeat().take(steps)
    fitted = model.fit(batches, shuffle=False, verbose=0, callbacks=[*callbacks, stop])
    loss = fitted.history["loss"][-1]
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss is {loss} while model {model.name!r} is trained: lower the learning rate, "
            "or check how inputs are preprocessed"
        )
