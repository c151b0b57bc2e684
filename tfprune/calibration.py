"""Calibration: a model, data and a loss, and sums over them that leave the model as it is."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune import batches, losses
from tfprune.graph import precision
from tfprune.graph import trace as tracing
from tfprune.graph.kernels import Kernel

log = logging.getLogger("tfprune")

# Examples in a step, and the memory that a step's largest tensor may take.
BATCH = 64
_MEMORY = 2**28


class Calibration:
    """A model as it infers, with the data and the loss by which its weights are judged.

    Args:
      model: a built Keras model with one output.
      data: what `fit` takes: a tf.data.Dataset of batches, or a tuple of arrays. It is read once
        for each statistic, batch by batch.
      loss: a Keras loss, its name, or a function (labels, outputs) -> one value an example; if
        None, the one that the model is compiled with, else the one that fits.
      seed: of statistics that draw random vectors.

    Attributes:
      memo: what statistics that are asked for again keep from one time to the next.
    """

    def __init__(
        self, model: keras.Model, data: object = None, *, loss: object = None, seed: int = 0
    ) -> None:
        self.model, self.data, self.seed = model, data, seed
        self._loss = keras.losses.get(loss) if loss is not None else None
        self.memo: dict[str, object] = {}
        self._checked = False

    def examples(
        self, *, labels: bool = False, batch_size: int = BATCH
    ) -> Iterator[tuple[object, np.ndarray | None]]:
        """Yields (x, y) of at most `batch_size` examples; y is None without `labels`.

        Raises:
          ValueError: if there are none, inputs are not finite, or labels are missing or wrong.
        """
        count = 0
        for x, y in batches.pairs(self.data, batch_size=batch_size):
            size = len(keras.tree.flatten(x)[0])
            _check_inputs(x, count)
            if labels:
                self._check_labels(x, y)
            for start in range(0, size, batch_size):
                part = slice(start, start + batch_size)
                yield _rows(x, part), _rows(y, part) if labels else None
            count += size
        if not count:
            raise ValueError(
                "the calibration data is empty: pass batches (or arrays) that can be read again, "
                "not an iterator that was used up"
            )

    def losses(self, x: object, y: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example, (n,), differentiable; `examples` was begun before."""
        return self.judged(y, self.model(x, training=False))

    def judged(self, y: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each example by what the model gave for it, as `losses`."""
        values = _values(self._loss, y, outputs)
        if values.shape.rank == 0:
            raise ValueError(
                "the loss returns one value for all examples: pass loss= one that returns a value "
                "each, such as a Keras loss"
            )
        values = tf.reshape(tf.cast(values, tf.float32), (tf.shape(values)[0], -1))
        return tf.reduce_mean(values, axis=1)

    def total(
        self,
        step: Callable[..., Sequence[tf.Tensor]],
        *,
        labels: bool = False,
        batch_size: int = BATCH,
    ) -> tuple[list[np.ndarray], int]:
        """Returns the sums over all batches of what `step(x)` or `step(x, y)` returns, in float64.

        The step is traced once, on tensors, while the model computes in float32 at least.

        Returns:
          The sums, and the number of examples.
        """
        compiled = tf.function(step, reduce_retracing=True, autograph=False)
        sums: list[np.ndarray] = []
        count = 0
        with self.unchanged():
            for x, y in self.examples(labels=labels, batch_size=batch_size):
                found = [np.asarray(v) for v in (compiled(x, y) if labels else compiled(x))]
                count += len(keras.tree.flatten(x)[0])
                sums = sums or [np.zeros(v.shape) for v in found]
                for i, value in enumerate(found):
                    sums[i] += value
        return sums, count

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Computes in float32 inside the block, and leaves states as they were."""
        states = [(v, keras.ops.convert_to_numpy(v)) for v in self.model.non_trainable_variables]
        try:
            with precision.in_float32(self.model):
                yield
        finally:
            for variable, value in states:
                if not np.array_equal(keras.ops.convert_to_numpy(variable), value):
                    variable.assign(value)

    def batch_size(self, kernels: Sequence[Kernel], floats: Callable[[Kernel, int], int]) -> int:
        """Returns how many examples a step may take so that it stays within memory.

        Args:
          kernels: whose tensors are made in the step.
          floats: (kernel, positions that its layer has) -> numbers an example needs.
        """
        sizes = {id(x.layer): 0 for x in kernels}
        for call in tracing.trace(self.model):
            if id(call.layer) in sizes and call.outputs:
                size = int(np.prod(call.outputs[0].shape))
                sizes[id(call.layer)] = max(sizes[id(call.layer)], size)
        worst = max(floats(x, sizes[id(x.layer)] // x.shape[-1]) for x in kernels)
        return max(1, min(BATCH, _MEMORY // (4 * max(worst, 1))))

    def _check_labels(self, x: object, y: np.ndarray | None) -> None:
        if y is None:
            raise ValueError("the calibration data has no labels: pass (x, y), the loss needs them")
        if not np.isfinite(y).all():
            raise ValueError("the calibration data has labels that are NaN or infinite")
        if not self._checked:
            outputs = self.model(x, training=False)
            if len(keras.tree.flatten(outputs)) != 1:
                raise ValueError(
                    f"model {self.model.name!r} has several outputs: pass a keras.Model that "
                    "returns the one to be judged"
                )
            self._resolve(y, np.asarray(keras.tree.flatten(outputs)[0]))
            self._classes = outputs.shape[-1]
            self._checked = True
        if _name(self._loss) == "sparse_categorical_crossentropy":
            losses.check_labels(y, self._classes)

    def _resolve(self, y: np.ndarray, outputs: np.ndarray) -> None:
        compiled, origin = getattr(self.model, "loss", None), "given"
        if self._loss is None and compiled:
            if isinstance(compiled, dict | list | tuple):
                kind = type(compiled).__name__
                raise ValueError(f"the compiled loss is a {kind}: pass loss= the one to score by")
            self._loss, origin = keras.losses.get(compiled), "compiled"
            try:
                _values(self._loss, y, outputs)
            except (ValueError, TypeError, tf.errors.InvalidArgumentError):
                log.info("compiled loss %s does not fit the labels", _name(self._loss))
                self._loss = None
        if self._loss is None:
            self._loss, origin = losses.fitting(self.model, y, outputs), "fits labels and outputs"
        log.info("scores are by loss %s (%s)", _name(self._loss), origin)


def _values(loss: Callable, y: object, outputs: object) -> tf.Tensor:
    """Returns the loss of each example, before they are averaged."""
    return (loss.call if isinstance(loss, keras.losses.Loss) else loss)(y, outputs)


def _name(loss: Callable) -> str:
    return getattr(loss, "name", getattr(loss, "__name__", str(loss)))


def _check_inputs(x: object, count: int) -> None:
    for part in keras.tree.flatten(x):
        if np.issubdtype(part.dtype, np.floating) and not np.isfinite(part).all():
            row = count + int(np.flatnonzero(~np.isfinite(part.reshape(len(part), -1)).all(1))[0])
            raise ValueError(f"the calibration data holds NaN or infinite inputs, example {row}")


def _rows(arrays: object, part: slice) -> object:
    return keras.tree.map_structure(lambda a: a[part], arrays)
