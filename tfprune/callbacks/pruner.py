"""`Pruner`: prunes the model that is being fitted, along a schedule."""

import logging
import math
from collections.abc import Sequence

import keras
import numpy as np

from tfprune import masks, schedules, targets
from tfprune.callbacks import moments
from tfprune.planning import Plan, Recipe

log = logging.getLogger("tfprune")


class Pruner(keras.callbacks.Callback):
    """Prunes the fitted model step by step, and keeps what is pruned at zero.

    Steps are updates of the optimizer since epoch 0 of this training, as in TFMOT. Whatever the
    schedule does, the model has the target's sparsity when training ends. The sparsity is added to
    the logs: Keras shows it in its progress bar and history, and TensorBoard (placed after this
    callback) as `epoch_sparsity`. The masks stay attached after training: see `tfprune.detach`.
    A callback that sets weights when training ends (EarlyStopping with restore_best_weights) goes
    before this one.

    Example:
      >>> model.fit(train, epochs=10, callbacks=[tfprune.Pruner("sparsity:0.9", end="8ep")])

    Args:
      target: as in `tfprune.prune`, but not in bytes or latency. May be left out where `schedule`
        is an object that says its final sparsity, as TFMOT's do.
      criterion, granularity, allocation, correction, data, loss, protect, min_keep, max_sparsity,
        round_to, seed: as in `tfprune.prune`. Scores that need `data` are computed anew at each
        update of the masks.
      schedule: `"polynomial"`, `"constant"` (TFMOT's own), `"one_shot"`, `"iterative"`,
        `"exponential"`, `"cosine"`, with options in brackets, or any object with
        `schedule(step) -> (should_prune, sparsity)`.
      begin: first step, `1000`, or epoch, `"2ep"`.
      end: last step or epoch; three quarters of the training if None, so that the rest of it
        recovers at the final sparsity.
      frequency: steps between two updates of the masks; if None, 20 updates or one every 100
        steps, whichever is more often.

    Raises:
      TypeError, ValueError: for a wrong word; when training begins, for a target that can't be
        met on the model.
    """

    async_safe = True

    def __init__(
        self,
        target: str | targets.Target | None = None,
        *,
        criterion: object = "magnitude",
        granularity: object = "weight",
        allocation: object = "global",
        correction: str = "own",
        data: object = None,
        loss: object = None,
        schedule: object = "polynomial",
        begin: int | str = 0,
        end: int | str | None = None,
        frequency: int | None = None,
        protect: Sequence[str] = (),
        min_keep: int = 1,
        max_sparsity: float = 1.0,
        round_to: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(schedule, str):
            schedules.check(schedule)
            if target is None:
                raise ValueError('a target such as "sparsity:0.8" is needed with a named schedule')
            target = targets.parse(target)
            if target.found:
                raise targets.not_for_training(target)
        else:
            target = _target_of(schedule, target)
        self._recipe = Recipe.of(
            target,
            criterion=criterion,
            granularity=granularity,
            allocation=allocation,
            correction=correction,
            protect=protect,
            min_keep=min_keep,
            max_sparsity=max_sparsity,
            round_to=round_to,
            seed=seed,
        )
        self._data, self._loss = data, loss
        self._spec = schedule
        self._begin, self._end, self._frequency = begin, end, frequency
        for moment in (begin, end):
            if moment is not None:
                moments.steps(moment, per_epoch=1)
        if frequency is not None and frequency < 1:
            raise ValueError(f"frequency={frequency}: a number of steps, 1 or more, is needed")
        self._plan: Plan | None = None
        self._schedule: schedules.Schedule | None = None
        self.sparsity = 0.0

    def plan(self, model: keras.Model) -> Plan:
        """Returns what would be pruned in `model`, and what not and why.

        Raises:
          ValueError: if the target can't be met on it.
        """
        plan = self._recipe.bind(model, data=self._data, loss=self._loss)
        if plan.recipe.target is not None:
            plan.check()  # out of reach is better said now than after hours of training
        return plan

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Binds the words to the model and attaches masks that prune nothing yet."""
        del logs
        plan = self.plan(self.model)
        self._plan, self._schedule, self._origin, self._last = plan, None, None, -1
        self._done, self._level = False, 0.0
        held = masks.of(self.model)
        variables = plan.variables.items()
        self._set({name: held.get(name, np.ones(w.shape, bool)) for name, w in variables})

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Fixes where step 0 is, and builds the schedule, at the first epoch."""
        del logs
        if self._origin is not None:
            return
        per_epoch = moments.epoch_steps(self)
        # A training that is resumed at a later epoch goes on in the schedule where it was.
        self._origin = moments.iterations(self.model) - epoch * (per_epoch or 0)
        if epoch:
            # What was pruned before is zero in the weights that were restored.
            self._last = moments.iterations(self.model) - self._origin - 1
            self._set(masks.of_zeros(self._plan.kernels))
        if not isinstance(self._spec, str):
            self._schedule = self._spec
            ends = getattr(self._spec, "end_step", -1)
            self._last_step = ends if ends >= 0 and self._plan.recipe.target else math.inf
            return
        begin = moments.steps(self._begin, per_epoch=per_epoch)
        end = moments.last(self._end, self, begin=begin)
        frequency = self._frequency or max(1, min(100, (end - begin) // 20))
        self._last_step = end
        self._schedule = schedules.build(
            self._spec,
            final_sparsity=self._plan.level,
            begin_step=begin,
            end_step=end,
            frequency=frequency,
        )

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Updates the masks where the schedule says so."""
        del batch, logs
        if self._done:
            return
        step = moments.iterations(self.model) - self._origin
        level = None
        # With steps_per_execution, several steps pass between two calls: none may be missed.
        for passed in range(self._last + 1, step + 1):
            due, sparsity = self._schedule(passed)
            if bool(due):
                level = float(sparsity)
        self._last = max(step, self._last)
        if step >= self._last_step:
            # Also where the schedule's last update is off the grid of its frequency.
            level, self._done = self._plan.level, True
        if level is not None:
            self._update(level)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Shows the sparsity in the progress bar."""
        del batch
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the sparsity to history and TensorBoard."""
        del epoch
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def on_train_end(self, logs: dict | None = None) -> None:
        """Brings the model to its target, whatever the schedule and the optimizer left."""
        if self._plan.recipe.target is not None and not np.isclose(self._level, self._plan.level):
            log.warning(
                "training ended at sparsity %.4f, before the schedule did: pruned to the target "
                "now, without training after it",
                self.sparsity,
            )
            self._update(self._plan.level)
        # Averaged weights (use_ema) are written over the model's own when training ends.
        masks.apply(self.model)
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def _update(self, level: float) -> None:
        self.sparsity = self._plan.sparsity(self._plan.apply(level))
        self._level = level

    def _set(self, new: masks.Masks) -> None:
        masks.attach(self.model, new)
        self.sparsity = self._plan.sparsity(new)


def _target_of(schedule: object, target: object) -> targets.Target | None:
    """Returns the target that a schedule object implies, checked against the one given."""
    if not callable(schedule):
        raise TypeError(
            f"a schedule is a name or a call step -> (bool, sparsity), not {schedule!r}"
        )
    final = schedules.final_sparsity(schedule)
    implied = None if final is None else targets.Target("sparsity", final)
    if target is None:
        return implied
    given = targets.parse(target)
    if given.kind != "sparsity" or (implied is not None and given != implied):
        raise ValueError(
            f"the schedule ends at {implied or 'a sparsity of its own'}, the target is {given}: "
            "leave the target out"
        )
    return given
