"""Accuracy over a data set: correct / total, never a mean of batch means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfprune import batches, losses

if TYPE_CHECKING:
    import keras


def evaluate(
    model: keras.Model,
    data: batches.Data,
    *,
    loss: keras.losses.Loss | None = None,
    batch_size: int = 256,
) -> dict[str, float | int]:
    """Returns accuracy and loss of `model` over all of `data`.

    Args:
      model: a Keras model with one output. Neither its weights nor its state change.
      data: a tf.data.Dataset or another iterable of (x, y) batches, or a tuple of arrays (x, y).
        Sample weights, where there are any, are not used.
      loss: the loss to report; by default the one that fits labels and outputs.
      batch_size: examples at a time where `data` is a tuple of arrays.

    Returns:
      `top1` and, with more than five classes, `top5`: fractions, correct / total over every
      label, absent where the targets aren't classes; `loss`: the mean over all examples, without
      regularisers; `examples`: how many.

    Raises:
      ValueError: if there are no examples, labels don't fit the outputs or an output isn't finite.
    """
    forward = predictor(model)
    correct: dict[str, int] = {}
    total = labelled = 0
    summed = 0.0
    fitting = None
    for x, labels in batches.pairs(data, batch_size=batch_size):
        if labels is None:
            raise ValueError("accuracy needs labels: pass batches of (x, y)")
        outputs = only_output(forward(x), model.name)
        check_finite(outputs, model.name)
        fitting = fitting or losses.fitting(model, labels, outputs)
        for name, hit in hits(outputs, labels, loss=fitting).items():
            correct[name] = correct.get(name, 0) + int(hit.sum())
            labelled += hit.size if name == "top1" else 0
        summed += float((loss or fitting)(labels, outputs)) * len(outputs)
        total += len(outputs)
    if not total:
        raise ValueError("there are no examples in the data")
    fractions = {name: count / labelled for name, count in correct.items()}
    return {**fractions, "loss": summed / total, "examples": total}


def hits(
    outputs: np.ndarray, labels: np.ndarray, *, loss: keras.losses.Loss
) -> dict[str, np.ndarray]:
    """Returns which labels are met: `top1` and, with more than five classes, `top5`.

    Args:
      outputs: (n, ..., c), or (n, ..., 1) of a binary classifier.
      labels: class numbers, or one-hot or probability rows.
      loss: the fitting loss. It tells classes from other targets, for which nothing is returned,
        and probabilities from logits: a binary classifier says 1 above 0.5, or above logit 0.
    """
    columns = class_scores(outputs, loss=loss)
    if columns is None:
        return {}
    if loss.name == "categorical_crossentropy":
        labels = np.argmax(labels, -1)
    labels = np.reshape(labels, columns.shape[:-1])
    ranks = {"top1": 1, "top5": 5} if columns.shape[-1] > 5 else {"top1": 1}
    return {name: topk(columns, labels, k) for name, k in ranks.items()}


def class_scores(outputs: np.ndarray, *, loss: keras.losses.Loss) -> np.ndarray | None:
    """Returns `outputs` with one column a class (two for a binary one), None without classes."""
    outputs = np.asarray(outputs)
    if "categorical" in loss.name:
        return outputs
    if loss.name != "binary_crossentropy" or outputs.shape[-1] != 1:
        return None
    threshold = 0.0 if loss.from_logits else 0.5
    return np.concatenate([np.full_like(outputs, threshold), outputs], axis=-1)


def topk(outputs: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Returns a boolean array: which of `labels` is among the `k` highest of its `outputs`.

    Classes with equal outputs rank by their number, lowest first, so each row has exactly `k`
    classes in its top k: a model that returns a constant gains nothing from its ties.

    Args:
      outputs: (..., classes).
      labels: (...) class numbers.
      k: how many of the highest count.

    Raises:
      ValueError: if a label is outside [0, classes), shapes don't match or an output is NaN.
    """
    outputs, labels = np.asarray(outputs), np.asarray(labels)
    if labels.shape != outputs.shape[:-1]:
        raise ValueError(f"labels of shape {labels.shape} don't fit outputs {outputs.shape}")
    losses.check_labels(labels, outputs.shape[-1])
    if np.isnan(outputs).any():
        raise ValueError("an output is NaN: no class ranks first")
    best = np.argsort(-outputs, axis=-1, kind="stable")[..., :k]
    return (best == labels[..., None]).any(-1)


def only_output(outputs: list[np.ndarray], name: str) -> np.ndarray:
    """Returns the only one of `outputs` of the model called `name`.

    Raises:
      ValueError: if there are several.
    """
    if len(outputs) != 1:
        raise ValueError(
            f"model {name!r} has {len(outputs)} outputs: pass a keras.Model that returns the one "
            "to be judged"
        )
    return outputs[0]


def check_finite(outputs: np.ndarray, name: str) -> None:
    """Checks that `outputs` of the model called `name` are finite.

    Raises:
      ValueError: saying how many are not.
    """
    bad = int(np.size(outputs) - np.isfinite(outputs).sum())
    if bad:
        raise ValueError(
            f"model {name!r} returned {bad} values that are NaN or infinite, of "
            f"{np.size(outputs)}: check its weights and the scale of its inputs"
        )


def predictor(model: keras.Model) -> Callable[[object], list[np.ndarray]]:
    """Returns a function from a batch to the list of `model`'s outputs, as NumPy arrays.

    The model runs as it infers: no dropout, stored batch-norm statistics, no weight changed.
    """
    import keras
    import tensorflow as tf

    # predict_on_batch would compile with XLA anew for each batch size.
    traced = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def forward(x: object) -> list[np.ndarray]:
        return [np.asarray(part) for part in keras.tree.flatten(traced(x))]

    return forward
