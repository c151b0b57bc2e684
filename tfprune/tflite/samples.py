"""Real samples in the form that files are converted, run and judged with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfprune import batches

if TYPE_CHECKING:
    import keras

    from tfprune.tflite.convert import Arrays


class Samples(NamedTuple):
    """Inputs in the model's own structure, one sample a row, and their labels if there are any."""

    inputs: Arrays
    labels: np.ndarray | None = None


def collect(
    data: batches.Data, model: keras.Model | None = None, *, limit: int | None = None
) -> Samples:
    """Returns the samples of `data` in memory, in the types that `model` takes.

    Args:
      data: whatever `batches.pairs` reads.
      model: gives the input types where it shows its inputs.
      limit: how many; from arrays they are spread evenly, from batches they are the first.

    Raises:
      ValueError: if there are none, or they have another shape than the model takes.
    """
    import keras

    inputs, labels, count = [], [], 0
    if limit is not None and isinstance(data, tuple | np.ndarray | dict):
        data = _spread_out(data, limit)
    for x, y in batches.pairs(data):
        inputs.append(x)
        labels.append(y)
        count += len(keras.tree.flatten(x)[0])
        if limit is not None and count >= limit:
            break
    if not count:
        raise ValueError("there are no samples in the data")
    whole = keras.tree.map_structure(lambda *parts: np.concatenate(parts)[:limit], *inputs)
    flat = keras.tree.flatten(whole)
    _check(flat, model)
    types = [_input_type(tensor) for tensor in _shown_inputs(model)]
    if len(types) != len(flat):
        types = [np.float32 if part.dtype.kind == "f" else part.dtype for part in flat]
    typed = [part.astype(kind, copy=False) for part, kind in zip(flat, types, strict=True)]
    whole = keras.tree.pack_sequence_as(whole, typed)
    known = all(isinstance(y, np.ndarray) for y in labels)
    return Samples(whole, np.concatenate(labels)[:limit] if known else None)


def _check(flat: list[np.ndarray], model: keras.Model | None) -> None:
    shown = [tuple(tensor.shape[1:]) for tensor in _shown_inputs(model)]
    given = [part.shape[1:] for part in flat]
    if len(shown) != len(given):  # a subclassed model shows none, and may take fewer than it has
        return
    for wanted, got in zip(shown, given, strict=True):
        # One channel may be left out, or be there besides.
        sizes = [size for size in wanted if size != 1], [size for size in got if size != 1]
        same = len(sizes[0]) == len(sizes[1]) and all(
            a in (None, b) for a, b in zip(*sizes, strict=True)
        )
        if not same:
            raise ValueError(
                f"model {model.name!r} takes samples of shape {wanted}, the data has {got}"
            )


def random_inputs(model: keras.Model, *, count: int = 32) -> Samples:
    """Returns `count` normal random samples (zeros and ones for integer inputs).

    Raises:
      ValueError: if the model doesn't show its inputs, or a size is left open.
    """
    rng = np.random.default_rng(0)
    tensors = _shown_inputs(model)
    open_sizes = [tensor.name for tensor in tensors if None in tensor.shape[1:]]
    if not tensors or open_sizes:
        raise ValueError(
            f"the input shape of model {model.name!r} is not fixed"
            + (f" (input {', '.join(open_sizes)})" if open_sizes else "")
            + ": pass evaluation= or calibration=, whose samples fix it"
        )

    def draw(tensor: keras.KerasTensor) -> np.ndarray:
        shape, kind = (count, *tensor.shape[1:]), np.dtype(_input_type(tensor))
        drawn = rng.normal(size=shape) if kind.kind == "f" else rng.integers(0, 2, size=shape)
        return drawn.astype(kind)

    import keras

    from tfprune.graph import trace

    return Samples(keras.tree.map_structure(draw, trace.inputs(model)))


def _shown_inputs(model: keras.Model | None) -> list[keras.KerasTensor]:
    return list(getattr(model, "inputs", None) or ())


def _input_type(tensor: keras.KerasTensor) -> str:
    # float16 and bfloat16 inputs would make a file that no application can feed as it is.
    return "float32" if "float" in tensor.dtype else tensor.dtype


def _spread_out(data: Arrays, limit: int) -> Arrays:
    import keras

    flat = [part for part in keras.tree.flatten(data) if part is not None]
    rows = np.linspace(0, len(flat[0]) - 1, min(limit, len(flat[0]))).astype(int)
    return keras.tree.map_structure(
        lambda part: None if part is None else np.asarray(part)[rows], data
    )
