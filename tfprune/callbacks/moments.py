"""Where a training is, in updates of the optimizer."""

import math

import keras


def steps(moment: int | str, *, per_epoch: int | None) -> int:
    """Returns the optimizer's steps at `1000`, or at epoch `"8ep"`.

    Raises:
      ValueError: for another form, or an epoch where how many steps it has is not known.
    """
    if isinstance(moment, int) and moment >= 0:
        return moment
    if isinstance(moment, str) and moment.endswith("ep"):
        try:
            epochs = float(moment[:-2])
        except ValueError:
            epochs = -1
        if epochs >= 0:
            if per_epoch is None:
                raise ValueError(f"{moment!r} needs a data set of known length: give steps instead")
            return round(epochs * per_epoch)
    raise ValueError(f'{moment!r} is no moment: give optimizer steps (1000) or epochs ("8ep")')


def last(moment: int | str | None, callback: keras.callbacks.Callback, *, begin: int = 0) -> int:
    """Returns the step at which something ends: if None, after three quarters of the training.

    Raises:
      ValueError: as `steps`, or if the training's length is not known.
    """
    per_epoch = epoch_steps(callback)
    if moment is not None:
        return steps(moment, per_epoch=per_epoch)
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
