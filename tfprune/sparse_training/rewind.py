"""Rewinding: train, prune, and train again from an early point; in rounds.

The lottery ticket hypothesis (Frankle & Carbin 2019, arXiv 1803.03635) sets the weights that stay
back to what they were at the start, later to what they were at step `to` (Frankle et al. 2020,
arXiv 1912.05671); learning-rate rewinding (Renda et al. 2020, arXiv 2003.02389) leaves them and
sets back the learning rate alone. Either way the optimizer's iterations, by which schedules of the
learning rate go, are set back to `to` and its momenta to zero.

A training of N steps with R rounds, each of the schedule "iterative", has cycles of

    T = (N + R * to) / (R + 1)

steps: from 0 to T, and R times from `to` to T. The learning rate should decay over T steps.
"""

import keras

from tfprune import masks, registry, schedules
from tfprune.planning import Recipe
from tfprune.sparse_training import Training

SCHEDULE = "iterative(1, 'geometric')"
REFUSES = ("channel",)


def check(recipe: Recipe, *, to: int | str = 0, what: str = "weights") -> None:
    """Refuses what can't be set back."""
    del recipe
    schedules.steps(to, per_epoch=1)
    if what not in ("weights", "rate"):
        raise registry.unknown("thing to rewind", what, ("weights", "rate"))


def cycle(schedule: str, total: int, per_epoch: int | None, *, to: int | str = 0) -> int:
    """Returns T, the steps of a cycle."""
    name, options = schedules.check(schedule)
    if name not in ("iterative", "one_shot"):
        raise ValueError(
            f"method 'rewind' trains anew after every update of the masks: schedule {schedule!r} "
            "contradicts it; give 'one_shot' or 'iterative(3)'"
        )
    rounds, first = options.get("rounds", 1), schedules.steps(to, per_epoch=per_epoch)
    return -(-(total + rounds * first) // (rounds + 1))


def span(schedule: str, total: int, per_epoch: int | None, *, to: int | str = 0) -> tuple[int, int]:
    """Returns the steps of the first and the last round."""
    first = schedules.steps(to, per_epoch=per_epoch)
    length = cycle(schedule, total, per_epoch, to=to)
    if first >= length:
        raise ValueError(f"method 'rewind': to={to!r} is not before the end of a cycle ({length})")
    rounds = schedules.check(schedule)[1].get("rounds", 1)
    return length, length + (rounds - 1) * (length - first)


def watch(training: Training, *, to: int | str = 0, what: str = "weights") -> None:
    """Notes, at step `to`, what will be set back."""
    if training.kept or training.step < schedules.steps(to, per_epoch=training.per_epoch):
        return
    training.kept = {
        name: keras.ops.convert_to_numpy(variable)
        for name, variable in _state(training.model, what).items()
    }


def update(training: Training, *, to: int | str = 0, what: str = "weights") -> masks.Masks:
    """Prunes, and sets back."""
    del to
    before = _iterations(training.model)
    result = training.prune()
    state = _state(training.model, what)
    for name, value in training.kept.items():
        state[name].assign(value)
    masks.apply(training.model)
    training.origin += _iterations(training.model) - before  # the schedule's steps go on
    return result


def _state(model: keras.Model, what: str) -> dict[str, keras.Variable]:
    """Returns all that is set back: of the optimizer all, or what counts its steps."""
    optimizer = {f"optimizer {i}": v for i, v in enumerate(model.optimizer.variables)}
    if what == "rate":
        return {name: v for name, v in optimizer.items() if v.path.endswith("iteration")}
    return optimizer | {f"weight {i}": v for i, v in enumerate(model.weights)}


def _iterations(model: keras.Model) -> int:
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))
