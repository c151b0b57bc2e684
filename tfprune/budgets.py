"""Targets that are measured, bytes and latency: the level of pruning that meets one."""

import dataclasses
import functools
import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from tfprune import masks, surgery
from tfprune.graph import kernels as k
from tfprune.graph import precision
from tfprune.measurement import runtime
from tfprune.planning.channel_plan import ChannelPlan
from tfprune.tflite import convert, samples
from tfprune.tflite.variants import VARIANTS

log = logging.getLogger("tfprune")

# How far below the target a result may stay: a timing is no surer than that.
_SLACK = {"bytes": 0.0025, "latency": 0.04}
_TRIES = {"bytes": 30, "latency": 8}
# Timed runs of each file in a try, and in the tries that confirm the result.
_RUNS, _CONFIRMING = 100, 300
_FINEST = 1e-5  # a share of the cost less than any channel's that matters
_SAMPLES = 200

# A level, and what was measured there.
Point = tuple[float, float]


def level(
    plan: ChannelPlan, *, variant: str = "float32", threads: int = 1, data: object = None
) -> float:
    """Returns the share of the plan's cost to remove for its target in bytes or latency.

    The model that `shrink` makes at a level is converted and measured, and the level interpolated
    between two that were: bytes are nearly affine in parameters, and latency in multiplications.

    Bytes: the file is not above the target, and one channel more would be, or it is within 0.25 %
    of the target. It is the file of the model as it is now: training may add a little where
    vectors are all zero, as a file stores equal ones once.

    Latency: as LiteRT measures it here, not above the target and not more than 4 % below, where
    the machine's noise and the steps of its kernels allow that. The dense file takes turns with
    the smaller one in one process, and the ratio of both is what counts, for a time in
    milliseconds too. The result is measured again with more runs, and corrected if it is off.

    Args:
      plan: its target is measured; its model is as before afterwards.
      variant: the kind of file, a name in `tfprune.tflite.variants.VARIANTS`.
      threads: of the interpreter that is timed.
      data: batches or arrays, as in `tfprune.prune`; they calibrate `int8`. Without them, files
        are timed on random samples.

    Raises:
      ValueError: if the target can't be met, with the nearest that can, or `data` is missing.
      RuntimeError: if a file can't be converted or run.
    """
    target, in_bytes = plan.recipe.target, plan.recipe.target.kind == "bytes"
    make, inputs = _maker(plan, variant, data)
    whole, scores = make(plan.model), plan.scores()
    gone = functools.cache(functools.partial(plan.gone, scores=scores))
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        if in_bytes:
            unit = len(whole) if target.is_share else 1
            gauge = lambda file: len(file) / unit  # noqa: E731
        else:
            gauge = _Clock(Path(folder), whole, inputs, threads, relative=target.is_share)

        def measure(share: float) -> float:
            value = gauge(make(_smaller(plan, gone(share))))
            log.info("target %s: %.6g with %.2f %% removed", target, value, 100 * share)
            return value

        goal, dense = target.value, 1.0 if target.is_share else gauge(whole)
        if dense <= goal:
            log.info("target %s: the dense model has %.6g, nothing is removed", target, dense)
            return 0.0
        most = plan.most(scores)
        least, failure = 0.0, None
        try:
            least = measure(most)
        except RuntimeError as error:
            # Layers of one channel are more than some kernels can; the target may be far above.
            log.info("target %s: %s, with %.2f %% removed", target, error, 100 * most)
            failure = error
        if least > goal:
            raise _unreachable(plan, least)
        find = functools.partial(
            search,
            measure,
            goal,
            (0.0, dense),
            (most, least),
            model=lambda share: gone(share).tobytes(),
            slack=_SLACK[target.kind],
            tries=_TRIES[target.kind],
        )
        found = find()
        if not in_bytes and found < most:
            gauge.runs = _CONFIRMING
            found = find(at=found)
    if failure and found == most:
        raise failure
    return found


def search(
    measure: Callable[[float], float],
    goal: float,
    low: Point,
    high: Point,
    *,
    model: Callable[[float], object],
    slack: float,
    tries: int,
    at: float | None = None,
) -> float:
    """Returns the lowest level found at which a measure that falls with it is not above `goal`.

    Regula falsi with the Illinois rule (Dowell and Jarratt, 1971), and a bisection where that
    stays on one side. It ends within `slack` of the goal, or where no other model is between.

    Args:
      measure: level -> measured value.
      goal: the value to reach.
      low: a level whose value is above the goal.
      high: one whose value is not.
      model: level -> what levels of the same model have in common; it is measured once.
      slack: the share of the goal that the result may be below it.
      tries: the most measurements.
      at: where to measure first.
    """
    aim = goal * (1 - slack / 2)
    (left, above), (right, below) = low, high
    known = {model(left): above, model(right): below}
    # What the ends count in the interpolation: one that stays put counts ever less.
    pulls, side, repeats = [above - aim, aim - below], None, 0
    while below < goal * (1 - slack) and right - left > _FINEST:
        level = left + (right - left) * pulls[0] / sum(pulls) if at is None else at
        if repeats > 2 or not left < level < right:
            level = (left + right) / 2
        at, key = None, model(level)
        if key not in known:
            if not tries:
                break
            tries -= 1
            known[key] = measure(level)
        met = int(known[key] <= goal)
        if met:
            right, below = level, known[key]
        else:
            left = level
        repeats, side = (repeats + 1 if met == side else 0), met
        pulls[met] = abs(known[key] - aim)
        if repeats:
            pulls[1 - met] /= 2
    return right


def _maker(
    plan: ChannelPlan, variant: str, data: object
) -> tuple[Callable[[keras.Model], bytes], convert.Arrays]:
    """Returns the function that makes a model's file, and samples to run it on."""
    target, kind = plan.recipe.target, VARIANTS[variant]
    if data is None and kind.calibrated:
        raise ValueError(
            f"target {target} of variant {variant!r} needs data= (some hundred training inputs): "
            "int8 activations need ranges seen on real samples"
        )
    try:
        found = samples.random_inputs(plan.model) if data is None else None
    except ValueError:
        raise ValueError(
            f"target {target} needs data=: model {plan.model.name!r} leaves its input size open"
        ) from None
    found = found or samples.collect(data, plan.model, limit=_SAMPLES)
    flat = None if data is None else keras.tree.flatten(found.inputs)

    def make(model: keras.Model) -> bytes:
        with precision.in_float32(model):
            return convert.convert(convert.trace(model, found.inputs), kind, flat)

    return make, found.inputs


class _Clock:
    """Times files in turns with the dense one; `clock(file)` in ms, or relative to it.

    Milliseconds are those of the dense file over all tries, times the ratio in this one.
    """

    def __init__(
        self, folder: Path, whole: bytes, inputs: convert.Arrays, threads: int, *, relative: bool
    ) -> None:
        self.files = [folder / "dense.tflite", folder / "small.tflite"]
        self.files[0].write_bytes(whole)
        self.inputs, self.threads, self.relative = keras.tree.flatten(inputs), threads, relative
        self.runs, self.dense = _RUNS, []

    def __call__(self, file: bytes) -> float:
        self.files[1].write_bytes(file)
        turns = runtime.compare(self.files, self.inputs, threads=self.threads, runs=self.runs)
        self.dense.extend(turns[:, 0])
        ratio = float(np.median(turns[:, 1] / turns[:, 0]))
        return ratio if self.relative else ratio * float(np.median(self.dense))


def _smaller(plan: ChannelPlan, gone: np.ndarray) -> keras.Model:
    """Returns what `prune` and `shrink` make when the labels that are `gone` go."""
    if not gone.any():
        return plan.model
    variables, before = k.named(plan.model), plan.model.get_weights()
    try:
        for name, mask in plan.fold(gone).items():
            masks.zero(variables[name], mask)
        return surgery.shrink(plan.model)
    finally:
        plan.model.set_weights(before)


def _unreachable(plan: ChannelPlan, least: float) -> ValueError:
    recipe = plan.recipe
    # Rounded up: the nearest has to be within reach itself.
    digits = 1 if recipe.target.kind == "bytes" and not recipe.target.is_share else 10_000
    nearest = dataclasses.replace(recipe.target, value=math.ceil(least * digits) / digits)
    return ValueError(
        f"target {recipe.target} can't be met on model {plan.model.name!r}: the nearest that can "
        f"is {nearest}, with min_keep={recipe.min_keep}, max_sparsity={recipe.max_sparsity:g}, "
        f"round_to={recipe.round_to} and {len(plan.skipped)} groups of channels left out"
    )
