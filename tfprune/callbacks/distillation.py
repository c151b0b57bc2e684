"""`Distillation`: trains the model on what a teacher says as well as on the labels."""

import os

import keras
from keras import ops

from tfprune import losses, masks
from tfprune.zoo import files


class Distillation(keras.callbacks.Callback):
    """Adds to the training loss how far the model's predictions are from its teacher's.

    Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531): with q and p the classes'
    probabilities of teacher and model, both softened by a temperature T,

        loss = (1 - weight) * loss of the labels + weight * T^2 * KL(q || p)

    inside the compiled train step, where the teacher sees the same augmented examples; penalties
    on weights count in full. Losses of validation are those of the labels. It goes with
    `tfprune.Pruner` and all others, in any order.

    Example:
      >>> kd = tfprune.Distillation()  # the teacher is the model as it is now
      >>> model.fit(train, epochs=10, callbacks=[tfprune.Pruner("sparsity:0.9"), kd])

    Args:
      teacher: a model with the same inputs and classes, a file of one, or None: a copy of the
        model as it is when training begins, before anything is pruned or restored.
      weight: of the teacher, from 0 to 1.
      temperature: above 0; the higher, the more the small probabilities count.

    Raises:
      ValueError: for a number out of range; when training begins, for a model or a teacher that
        does not end in one probability or logit a class, or a model that can't be copied.
    """

    async_safe = True

    def __init__(
        self,
        teacher: "keras.Model | str | os.PathLike[str] | None" = None,
        *,
        weight: float = 0.5,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight={weight!r}: a share from 0 to 1 is needed")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r}: a number above 0 is needed")
        if isinstance(teacher, str | os.PathLike):
            teacher = files.load_model(teacher)
        self._teacher, self._weight, self._temperature = teacher, weight, temperature

    def set_model(self, model: keras.Model) -> None:
        """Copies the model, if it is its own teacher, before another callback changes it."""
        super().set_model(model)
        if self._teacher is None:
            self._teacher = _copy(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Has the loss computed with the teacher."""
        del logs
        teacher, model = self._teacher, self.model
        if teacher.output_shape != model.output_shape or len(model.outputs) != 1:
            raise ValueError(
                f"teacher {teacher.name!r} returns {teacher.output_shape} and model "
                f"{model.name!r} {model.output_shape}: one output with the same classes is needed"
            )
        logits = [_logits(network) for network in (teacher, model)]
        vars(model).pop("compute_loss", None)  # what a training that was stopped left
        plain = model.compute_loss
        divergence = keras.losses.KLDivergence()
        replicas = model.distribute_strategy.num_replicas_in_sync

        def compute_loss(
            x: object = None,
            y: object = None,
            y_pred: object = None,
            sample_weight: object = None,
            training: bool = True,
        ) -> keras.KerasTensor:
            loss = plain(x, y, y_pred, sample_weight, training=training)
            if not training:
                return loss
            wanted, given = (
                ops.softmax(to_logits(out) / self._temperature)
                for to_logits, out in zip(logits, (teacher(x, training=False), y_pred), strict=True)
            )
            taught = self._temperature**2 * divergence(wanted, given, sample_weight)
            penalties = sum(ops.sum(x) for x in model.losses) / replicas
            return (1 - self._weight) * loss + self._weight * (taught + penalties)

        model.compute_loss = compute_loss
        masks.retrace(model)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Leaves the model its own loss."""
        del logs
        vars(self.model).pop("compute_loss", None)
        masks.retrace(self.model)


def _copy(model: keras.Model) -> keras.Model:
    """Returns a copy with the weights of now."""
    try:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"model {model.name!r} can't be copied to be its own teacher ({error}): give "
            "Distillation(teacher=...) a model or a file"
        ) from error
    return copy


def _logits(model: keras.Model) -> object:
    """Returns the function from what a model returns to logits."""
    last = losses.activation(model)
    if last == "softmax":
        return lambda out: ops.log(ops.clip(ops.cast(out, "float32"), 1e-7, 1.0))
    if last == "linear" and model.output_shape[-1] > 1:
        return lambda out: ops.cast(out, "float32")
    raise ValueError(
        f"model {model.name!r} ends in {last!r} with {model.output_shape[-1]} values: distillation "
        "needs a softmax, or logits of two classes or more"
    )
