"""`Pruner`: prunes the model that is being fitted, along a schedule."""

import logging
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfprune import masks, schedules, sparse_training, targets
from tfprune.callbacks import claims, frozen, moments
from tfprune.callbacks import state as carried
from tfprune.callbacks.journal import Journal
from tfprune.planning import Plan, Recipe
from tfprune.sparse_training import Training

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("tfprune")


class Pruner(keras.callbacks.Callback):
    """Prunes the fitted model step by step, and keeps what is pruned at zero.

    Steps are updates of the optimizer since epoch 0 of this training, as in TFMOT. Whatever the
    schedule does, the model has the target's sparsity when training ends. The sparsity is added to
    the logs: Keras shows it in its progress bar and history, and TensorBoard (placed after this
    callback) as `epoch_sparsity`. The masks stay attached after training: see `tfprune.detach`.
    A callback that sets weights when training ends (EarlyStopping with restore_best_weights) goes
    before this one.

    What a training that was stopped needs to go on is saved with the weights, by
    `tfprune.Checkpoint`, `keras.callbacks.BackupAndRestore` and `ModelCheckpoint`.

    Example:
      >>> model.fit(train, epochs=10, callbacks=[tfprune.Pruner("sparsity:0.9", end="8ep")])
      >>> model.fit(train, epochs=10, callbacks=[tfprune.Pruner("sparsity:0.9", method="rigl")])

    Args:
      target: as in `tfprune.prune`, but not in bytes or latency. May be left out where `schedule`
        is an object that says its final sparsity, as TFMOT's do.
      criterion, granularity, allocation, correction, data, loss, protect, min_keep, max_sparsity,
        round_to, seed: as in `tfprune.prune`. Scores that need `data` are computed anew at each
        update of the masks.
      method: how masks change, a name in `tfprune.sparse_training`: `"gradual"`, `"acdc"`,
        `"dns"`, `"greg"`, `"movement"`, `"rewind"`, `"rigl"`, `"set"`, `"str"`, with options in
        brackets.
      schedule: `"polynomial"`, `"constant"` (TFMOT's own), `"one_shot"`, `"iterative"`,
        `"exponential"`, `"cosine"`, `"alternating"`, with options in brackets, or any object with
        `schedule(step) -> (should_prune, sparsity)`; if None, the method's, else polynomial.
      begin: first step, `1000`, or epoch, `"2ep"`; 0 if None, where the method has no other.
      end: last step or epoch; if None, three quarters of the training, so that the rest of it
        recovers at the final sparsity, where the method has no other.
      frequency: steps between two updates of the masks; if None, 20 updates or one every 100
        steps, whichever is more often.
      log_dir: where TensorBoard's files go: in its folder `pruning` are `sparsity`, `threshold` and
        `churn` (the share of the weights whose mask changed) of each kernel by epoch, in place of
        those of an earlier training.

    Attributes:
      sparsity: the fraction of the kernels' weights that is pruned now.

    Raises:
      TypeError, ValueError: for a wrong word; when training begins, for a target that can't be
        met on the model, or another callback that prunes.
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
        method: object = "gradual",
        schedule: object = None,
        begin: int | str | None = None,
        end: int | str | None = None,
        frequency: int | None = None,
        protect: Sequence[str] = (),
        min_keep: int = 1,
        max_sparsity: float = 1.0,
        round_to: int = 1,
        seed: int = 0,
        log_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        self._method = sparse_training.get(method)
        if schedule is None:
            schedule = getattr(self._method.definition, "SCHEDULE", "polynomial")
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
        sparse_training.check(self._method, self._recipe)
        self._data, self._loss = data, loss
        self._spec = schedule
        self._begin, self._end, self._frequency = begin, end, frequency
        for moment in (begin, end):
            if moment is not None:
                schedules.steps(moment, per_epoch=1)
        if frequency is not None and frequency < 1:
            raise ValueError(f"frequency={frequency}: a number of steps, 1 or more, is needed")
        self._events = None if log_dir is None else os.path.join(log_dir, "pruning")
        self._training: Training | None = None
        self._schedule: schedules.Schedule | None = None
        self._journal: Journal | None = None
        self.sparsity = 0.0

    def plan(self, model: keras.Model) -> Plan:
        """Returns what would be pruned in `model`, and what not and why.

        Raises:
          ValueError: if the target can't be met on it.
        """
        recipe = frozen.spared(self._recipe, model)
        plan = recipe.bind(model, data=self._data, loss=self._loss)
        if plan.recipe.target is not None:
            plan.check()  # out of reach is better said now than after hours of training
        return plan

    @property
    def history(self) -> "pd.DataFrame":
        """The updates of the masks: step, sparsity (or cost) scheduled, sparsity reached.

        Raises:
          ValueError: before a training.
        """
        return self._noted().history()

    @property
    def by_epoch(self) -> "pd.DataFrame":
        """A row an epoch and kernel: epoch, name, weights, sparsity, threshold, pruned, regrown.

        The last two are the shares of its weights whose masks changed in the epoch; for the
        threshold see `summary`.

        Raises:
          ValueError: before a training.
        """
        return self._noted().by_epoch()

    def summary(self) -> "pd.DataFrame":
        """Returns a table of the kernels as they are now, or were when training ended.

        Returns:
          A row a kernel: name, shape, weights, how many of them are kept, sparsity, threshold (the
          smallest magnitude that the last update of the masks left, or what the method itself
          compares with), churn (the share of its weights whose mask changed in the last epoch); and
          a row for each that is left out, with the reason as `skipped`.

        Raises:
          ValueError: before a training.
        """
        return self._noted().summary()

    def _noted(self) -> Journal:
        if self._journal is None:
            raise ValueError("nothing was pruned yet: give this Pruner to model.fit first")
        return self._journal

    def cycle(self, epochs: int, per_epoch: int) -> int:
        """Returns over how many steps the learning rate is to decay: all, if nothing rewinds."""
        total = epochs * per_epoch
        if self._method.has("cycle"):
            return self._method("cycle", self._spec, total, per_epoch)
        return total

    def set_model(self, model: keras.Model) -> None:
        """Has the files of this training carry what it takes to go on."""
        super().set_model(model)
        carried.join(self, model)

    def state(self) -> carried.Values:
        """Returns what it takes to go on, {name: array}."""
        if self._training is None:
            return {}
        training = self._training
        # Names of layers count up within a process: places are the same in the next one.
        places = {name: i for i, name in enumerate(training.plan.variables)}
        numbers = [training.origin, training.updates, self._last, self._level, self._done]
        return {
            "numbers": np.array(numbers, np.float64),
            "words": np.frombuffer(self._words().encode(), np.uint8),
            **{f"mask {i}": mask for i, mask in enumerate(training.present().values())},
            **{f"tap {name}": value for name, value in sparse_training.recall(training).items()},
            **{f"kept {name}": value for name, value in training.kept.items()},
            **{f"journal {name}": value for name, value in self._journal.state().items()},
            **{
                f"memory {places[name]}\t{view}\t{index}": scores
                for (name, view, index), scores in training.plan.memory.items()
            },
        }

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Binds the words to the model and attaches masks that prune nothing yet."""
        del logs
        claims.alone(self)
        plan = self.plan(self.model)
        self._schedule, self._last = None, -1
        self._done, self._level = False, 0.0
        held = masks.of(self.model)
        variables = plan.variables.items()
        masks.attach(
            self.model, {name: held.get(name, np.ones(w.shape, bool)) for name, w in variables}
        )
        self._training = Training(plan)
        self._journal = Journal(self._training, self._events)
        self.sparsity = plan.sparsity(self._training.present())
        if self._method.has("tap"):
            with self.model.distribute_strategy.scope():
                for name, variable in variables:
                    self._training.taps[name] = self._method("tap", variable)
        sparse_training.attach(self.model, self._training.taps)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Fixes where step 0 is, and builds the schedule, at the first epoch."""
        del logs
        if self._schedule is not None:
            return
        training = self._training
        training.per_epoch = moments.epoch_steps(self)
        # A training that is resumed at a later epoch goes on in the schedule where it was.
        training.origin = moments.iterations(self.model) - epoch * (training.per_epoch or 0)
        self._schedule, noted = self._bound(), None
        if (values := carried.restored(self, self.model)) is not None:
            noted = self._restore(values)
        elif epoch:
            # What was pruned before is zero in the weights that were restored.
            self._last = moments.iterations(self.model) - training.origin - 1
            masks.attach(self.model, masks.of_zeros(training.plan.kernels))
        self.sparsity = training.plan.sparsity(training.present())
        self._journal.begin(noted, epoch)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Updates the masks where the schedule says so."""
        del batch, logs
        if self._done:
            return
        training = self._training
        step = training.step = moments.iterations(self.model) - training.origin
        if self._method.has("watch"):
            self._method("watch", training)
        level = None
        # With steps_per_execution, several steps pass between two calls: none may be missed.
        for passed in range(self._last + 1, step + 1):
            due, sparsity = self._schedule(passed)
            if bool(due):
                level = float(sparsity)
        self._last = max(step, self._last)
        if step >= self._last_step:
            # Also where the schedule's last update is off the grid of its frequency.
            level, self._done = training.plan.level, True
        if level is not None:
            self._update(level)
        if self._done:  # what is left of the training needs no more than masks
            sparse_training.detach(self.model)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Shows the sparsity in the progress bar."""
        del batch
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the sparsity to history and TensorBoard."""
        self._journal.epoch(epoch)
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def on_train_end(self, logs: dict | None = None) -> None:
        """Brings the model to its target, whatever the schedule and the optimizer left."""
        sparse_training.detach(self.model)
        plan = self._training.plan
        short = bool(self._training.taps) or not np.isclose(self._level, plan.level)
        if plan.recipe.target is not None and not self._done and short:
            reached = self.sparsity
            self._training.level = plan.level
            self._note(self._training.prune(), plan.level)
            if not np.isclose(reached, self.sparsity, atol=1e-4):
                log.warning(
                    "training ended at sparsity %.4f, before the schedule did: pruned to the "
                    "target now, without training after it",
                    reached,
                )
        # Averaged weights (use_ema) are written over the model's own when training ends.
        masks.apply(self.model)
        self._journal.end()
        carried.leave(self.model)
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def _update(self, level: float) -> None:
        training = self._training
        span = max(self._last_step - self._first_step, 1)
        training.progress = min((training.step - self._first_step) / span, 1.0)
        training.level = level
        self._note(self._method("update", training), level)
        self._level = training.level  # of which a method may put off some
        training.updates += 1

    def _note(self, held: masks.Masks, level: float) -> None:
        self.sparsity = self._training.plan.sparsity(held)
        step = moments.iterations(self.model) - self._training.origin
        self._journal.update(held, step=step, scheduled=level, reached=self.sparsity)

    def _bound(self) -> schedules.Schedule:
        """Returns the schedule in steps of this training."""
        plan, per_epoch = self._training.plan, self._training.per_epoch
        self._first_step = 0
        if not isinstance(self._spec, str):
            ends = getattr(self._spec, "end_step", -1)
            self._last_step = ends if ends >= 0 and plan.recipe.target else math.inf
            return self._spec
        begin, end = self._begin, self._end
        total = per_epoch and per_epoch * self.params["epochs"]
        if self._method.has("span") and total:
            spanned = self._method("span", self._spec, total, per_epoch)
            begin, end = (x if y is None else y for x, y in zip(spanned, (begin, end), strict=True))
        begin = schedules.steps(begin or 0, per_epoch=per_epoch)
        end = moments.last(end, self, begin=begin)
        self._first_step, self._last_step = begin, end
        schedule = schedules.build(
            self._spec,
            final_sparsity=plan.level,
            begin_step=begin,
            end_step=end,
            frequency=self._frequency or max(1, min(100, (end - begin) // 20)),
        )
        if total and end >= total:
            log.warning(
                "the schedule ends at step %d, the training after %d: it reaches a sparsity of "
                "%.4f, and is then pruned to %s without training after it; give an earlier end",
                end,
                total,
                float(schedule(total - 1)[1]),
                plan.recipe.target,
            )
        return schedule

    def _words(self) -> str:
        recipe, named = self._recipe, isinstance(self._spec, str)
        words = (recipe.target, recipe.criterion.name, recipe.granularity.name)
        words += (recipe.allocation.name, self._method.name)
        return ", ".join(map(str, (*words, self._spec if named else type(self._spec).__name__)))

    def _restore(self, values: carried.Values) -> carried.Values:
        """Goes on where the training was when these values were saved; returns the journal's."""
        if (words := bytes(values["words"]).decode()) != self._words():
            raise ValueError(
                f"the checkpoint was pruned in other words ({words}) than these ({self._words()}): "
                "give the same, or begin anew without it"
            )
        training, groups = self._training, {}
        for name, value in values.items():
            group, _, rest = name.partition(" ")
            groups.setdefault(group, {})[rest] = value
        origin, updates, last, self._level, done = groups["numbers"][""]
        training.origin, training.updates = int(origin), int(updates)
        self._last, self._done = int(last), bool(done)
        names = [*training.plan.variables]
        masks.attach(self.model, {names[int(i)]: mask for i, mask in groups["mask"].items()})
        training.kept = groups.get("kept", {})
        for key, value in groups.get("memory", {}).items():
            place, view, index = key.split("\t")
            training.plan.memory[names[int(place)], view, int(index)] = value
        sparse_training.remember(training, groups.get("tap", {}))
        if self._done:
            sparse_training.detach(self.model)
        return groups["journal"]


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
