"""What Keras itself returns, for the files to be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfprune import batches as batching
from tfprune import losses
from tfprune.measurement import accuracy
from tfprune.tflite import parity, samples

if TYPE_CHECKING:
    import keras

    from tfprune.tflite.convert import Arrays


class Reference(NamedTuple):
    """Samples and Keras' outputs for them.

    Attributes:
      inputs: in the model's own structure, one sample a row.
      outputs: one array an output.
      labels: of the inputs, None where there are none.
      loss: tells which outputs are classes, None where none are.
      note: what a reader of the figures must know of the samples.
      spreads: of the outputs' values, over all samples there were.
    """

    inputs: Arrays
    outputs: list[np.ndarray]
    labels: np.ndarray | None
    loss: keras.losses.Loss | None
    note: str
    spreads: Sequence[float] | None = None

    def noting(self, remark: str) -> Reference:
        """Returns this reference with a further `remark` in its note."""
        return self._replace(note="; ".join(part for part in (self.note, remark) if part))

    def first(self, count: int) -> Reference:
        """Returns the reference of the first `count` samples alone."""
        import keras

        labels = None if self.labels is None else self.labels[:count]
        inputs = keras.tree.map_structure(lambda part: part[:count], self.inputs)
        outputs = [part[:count] for part in self.outputs]
        spreads = self.spreads or [parity.spread(part) for part in self.outputs]
        return self._replace(inputs=inputs, outputs=outputs, labels=labels, spreads=spreads)

    @property
    def classes(self) -> int | None:
        """How many classes the only output tells apart, None where there are several outputs."""
        return self.outputs[0].shape[-1] if len(self.outputs) == 1 else None

    @property
    def metrics(self) -> dict[str, float]:
        """Keras' own `top1` and `top5` on these samples, where they have labels."""
        return self._accuracy(self.outputs)

    def judge(self, outputs: list[np.ndarray]) -> dict[str, float]:
        """Returns errors, agreement and accuracy of a file's `outputs`.

        Raises:
          ValueError: if number or shapes of the outputs differ from Keras'.
        """
        errors = parity.compare(outputs, self.outputs, spreads=self.spreads)
        if np.isinf(errors["relative_error"]):
            return errors
        return errors | self._agreement(outputs) | self._accuracy(outputs)

    def _agreement(self, outputs: list[np.ndarray]) -> dict[str, float]:
        if self.loss is None:
            return {}
        mine, theirs = (
            accuracy.class_scores(part[0], loss=self.loss) for part in (outputs, self.outputs)
        )
        if mine is None or theirs is None:
            return {}
        return {"top1_agreement": float((mine.argmax(-1) == theirs.argmax(-1)).mean())}

    def _accuracy(self, outputs: list[np.ndarray]) -> dict[str, float]:
        if self.labels is None or self.loss is None:
            return {}
        found = accuracy.hits(outputs[0], self.labels, loss=self.loss)
        return {name: float(hit.mean()) for name, hit in found.items()}


def build_reference(
    model: keras.Model,
    *,
    calibration: batching.Data | None,
    evaluation: batching.Data | None,
    limit: int = 200,
) -> Reference:
    """Returns samples with Keras' outputs: all of `evaluation`, else some of `calibration`.

    Raises:
      ValueError: if data don't fit the model, its outputs aren't finite, or its batch size is
        fixed above 1.
    """
    note = ""
    if evaluation is not None:
        inputs, labels = samples.collect(evaluation, model)
    elif calibration is not None:
        # Accuracy on training data would pass for accuracy on a test set.
        inputs, labels = samples.collect(calibration, model, limit=limit).inputs, None
        note = "compared on calibration samples"
    else:
        inputs, labels = samples.random_inputs(model)
        note = "compared on random samples: pass evaluation=, or --dataset"
    forward = accuracy.predictor(model)
    batches = batching.pairs((inputs,), batch_size=_batch_size(model))
    parts = [forward(x) for x, _ in batches]
    outputs = [np.concatenate(part) for part in zip(*parts, strict=True)]
    for part in outputs:
        accuracy.check_finite(part, model.name)
    outputs = [part.astype(np.float32, copy=False) for part in outputs]
    if len(outputs) > 1:
        reference = Reference(inputs, outputs, None, None, note)
        return reference.noting("several outputs, so there is no top-1")
    if labels is None:
        return Reference(inputs, outputs, None, _presumed_loss(model, outputs[0]), note)
    return Reference(inputs, outputs, labels, losses.fitting(model, labels, outputs[0]), note)


def _presumed_loss(model: keras.Model, outputs: np.ndarray) -> keras.losses.Loss | None:
    """Returns the loss of a classifier, as far as outputs without labels look like one's."""
    import keras

    last = losses.activation(model, outputs)
    if outputs.shape[-1] > 1:
        multilabel = last == "sigmoid"
        return None if multilabel else keras.losses.SparseCategoricalCrossentropy()
    return keras.losses.BinaryCrossentropy() if last == "sigmoid" else None


def _batch_size(model: keras.Model) -> int:
    fixed = {tensor.shape[0] for tensor in getattr(model, "inputs", None) or ()} - {None}
    if fixed - {1}:
        raise ValueError(
            f"model {model.name!r} has a fixed batch size of {max(fixed)}: build it with a batch "
            "size of None or 1, for a file that takes one sample"
        )
    return 1 if fixed else 256
