"""The loss that fits a model's labels and its last activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

# Operations that keep the values, so that the activation before them still decides.
_TRANSPARENT = {"Dropout", "Flatten", "Identity", "Reshape"}


def fitting(
    model: keras.Model, labels: np.ndarray, outputs: np.ndarray | None = None
) -> keras.losses.Loss:
    """Returns the loss that fits `labels` and what `model` returns; its `name` says which.

    | output     | labels                                | loss                          |
    |------------|---------------------------------------|-------------------------------|
    | (n, c > 1) | class numbers (n,) or (n, 1)          | SparseCategoricalCrossentropy |
    | (n, c > 1) | one-hot or probabilities (n, c)       | CategoricalCrossentropy       |
    | (n, c > 1) | values in [0, 1] (n, c), sigmoid      | BinaryCrossentropy            |
    | (n, 1)     | 0 or 1, or in [0, 1] with a sigmoid   | BinaryCrossentropy            |
    | any shape  | other float targets of the same shape | MeanSquaredError              |

    Further axes between n and c (pixels, time steps) are labelled one by one.

    Args:
      model: any Keras model with one output.
      labels: as in the table; class numbers may be stored as floats.
      outputs: what `model` returned for these labels. Tells probabilities from logits where the
        last activation can't be seen, as in a subclassed model, and gives the shape.

    Raises:
      ValueError: if shapes don't match, a label is no class, or nothing shows the activation.
    """
    import keras

    labels = np.asarray(labels)
    shape = _output_shape(model) if outputs is None else np.shape(outputs)
    last = activation(model, outputs)
    logits = last not in ("softmax", "sigmoid")
    classes = shape[-1]
    same = labels.ndim == len(shape) and labels.shape[1:] == tuple(shape[1:])
    numbers = labels.shape[1:] == tuple(shape[1:-1]) or (
        labels.ndim == len(shape) and labels.shape[1:] == (*shape[1:-1], 1)
    )
    if not (same or numbers) or (outputs is not None and len(labels) != shape[0]):
        raise ValueError(
            f"labels of shape {labels.shape} don't fit outputs of shape {tuple(shape)}: expected "
            f"one class number an example, or {classes} values an example"
        )
    if classes == 1:
        if logits and labels.dtype.kind == "f" and not np.isin(labels, (0, 1)).all():
            return keras.losses.MeanSquaredError()
        check_labels(labels, 2, fractions=not logits)
        return keras.losses.BinaryCrossentropy(from_logits=logits)
    if not same:
        check_labels(labels, classes)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    if last == "sigmoid":
        check_labels(labels, 2, fractions=True)
        return keras.losses.BinaryCrossentropy()
    distributions = labels.min() >= 0 and np.allclose(labels.sum(-1), 1, atol=1e-3)
    if distributions:
        return keras.losses.CategoricalCrossentropy(from_logits=logits)
    if not logits:
        raise ValueError(
            "the model ends in softmax, but its labels are neither class numbers nor "
            "rows of probabilities that sum to 1"
        )
    return keras.losses.MeanSquaredError()


def check_labels(labels: np.ndarray, classes: int, *, fractions: bool = False) -> None:
    """Checks that each of `labels` is a class number in [0, classes), or a fraction in [0, 1].

    Raises:
      ValueError: naming the first label that is none, and `classes`.
    """
    labels = np.asarray(labels)
    wrong = ~((labels >= 0) & (labels <= classes - 1))
    if not fractions:
        wrong |= labels != np.floor(labels)
    if wrong.any():
        raise ValueError(
            f"label {labels[wrong].flat[0]} is outside [0, {classes}): the model has {classes} "
            f"classes, numbered from 0 to {classes - 1}"
        )


def activation(model: keras.Model, outputs: np.ndarray | None = None) -> str:
    """Returns the activation that ends `model`: "softmax", "sigmoid", "linear" or another name.

    It is read from the layers, through Activation layers, reshapes and nested models. Where that
    is impossible it is judged by `outputs`: values in [0, 1] whose rows sum to 1 within 1e-3 are
    "softmax", a single column in [0, 1] is "sigmoid", anything else is "linear".

    Raises:
      ValueError: if the layers don't show it and there are no `outputs`.
    """
    seen = _visible_activation(model)
    if seen is not None:
        return seen
    if outputs is None:
        raise ValueError(
            f"the last activation of model {model.name!r} can't be seen from its layers: "
            "pass outputs=, or compile the model with a loss"
        )
    outputs = np.asarray(outputs)
    if outputs.min() < 0 or outputs.max() > 1:
        return "linear"
    if outputs.shape[-1] == 1:
        return "sigmoid"
    return "softmax" if np.allclose(outputs.sum(-1), 1, rtol=0, atol=1e-3) else "linear"


def _output_shape(model: keras.Model) -> tuple[int | None, ...]:
    shapes = [tuple(tensor.shape) for tensor in getattr(model, "outputs", None) or ()]
    if len(shapes) != 1:
        raise ValueError(
            f"model {model.name!r} shows {len(shapes)} outputs where one is needed: pass outputs="
        )
    return shapes[0]


def _visible_activation(model: keras.Model) -> str | None:
    tensors = getattr(model, "outputs", None) or ()
    return _activation_of(tensors[0]) if len(tensors) == 1 else None


def _activation_of(tensor: keras.KerasTensor) -> str | None:
    # _keras_history is how Keras itself walks a graph; there is no public name for it.
    operation, node, _ = tensor._keras_history
    kind = type(operation).__name__
    if getattr(operation, "outputs", None):
        return _visible_activation(operation)
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    name = getattr(getattr(operation, "activation", None), "__name__", None)
    passes = kind in _TRANSPARENT or (kind == "Activation" and name == "linear")
    if passes:
        return _activation_of(operation._inbound_nodes[node].input_tensors[0])
    return name
