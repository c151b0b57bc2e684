"""Where a training is, in updates of the optimizer."""

import math

import keras

from tfprune import schedules


def last(moment: int | str | None, callback: keras.callbacks.Callback, *, begin: int = 0) -> int:
    """Returns the step at which something ends: if None, after three quarters of the training.

    Raises:
      ValueError: as `schedules.steps`, or if the training's length is not known.
    """
    per_epoch = epoch_steps(callback)
    if moment is not None:
        return schedules.steps(moment, per_epoch=per_epoch)
    if per_epoch is None:
        raise ValueError(
            f"the data set's length is unknown: give {type(callback).__name__} an end in steps, "
            "such as end=2000, or fit a steps_per_epoch"
        )
    return max(begin, math.ceil(0.75 * per_epoch * callback.params["epochs"]) - 1)


def iterations(model: keras.Model) -> int:
    """Returns how many updates the optimizer has made."""
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def epoch_steps(callback: keras.callbacks.Callback) -> int | None:
    """Returns the optimizer's updates in an epoch, None where the data has no known length."""
    batches = callback.params.get("steps")
    if batches is None:
        return None
    optimizer = getattr(callback.model.optimizer, "inner_optimizer", callback.model.optimizer)
    return max(1, batches // (optimizer.gradient_accumulation_steps or 1))
