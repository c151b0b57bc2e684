"""When to prune and how much: TFMOT's pruning schedules, and others with the same call.

A schedule is `schedule(step) -> (should_prune, sparsity)`. "polynomial" and "constant" build
TFMOT's own classes; any `tfmot.sparsity.keras.PruningSchedule` works as it is.
"""

import contextlib
import dataclasses
import inspect
import math
import os
from collections.abc import Callable, Iterator

from tfprune import registry

Schedule = Callable[[int], tuple[bool, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Ramp:
    """From an initial to a final sparsity between two steps, updated every `frequency` steps."""

    final_sparsity: float
    begin_step: int
    end_step: int
    initial_sparsity: float = 0.0
    frequency: int = 1

    def __call__(self, step: int) -> tuple[bool, float]:
        """Returns whether the masks are due at `step`, and their sparsity."""
        due = self.begin_step <= step <= self.end_step
        on_grid = (step - self.begin_step) % self.frequency == 0 or step == self.end_step
        span = max(self.end_step - self.begin_step, 1)
        progress = min(max((step - self.begin_step) / span, 0.0), 1.0)
        return due and on_grid, self._sparsity(progress)


class Cosine(_Ramp):
    """Half a cosine wave: slow at both ends."""

    def _sparsity(self, progress: float) -> float:
        gap = self.initial_sparsity - self.final_sparsity
        return self.final_sparsity + gap * (1 + math.cos(math.pi * progress)) / 2


class Exponential(_Ramp):
    """The density decays exponentially: equal times remove equal shares of what is left."""

    def _sparsity(self, progress: float) -> float:
        left = (1 - self.final_sparsity) / (1 - self.initial_sparsity)
        return 1 - (1 - self.initial_sparsity) * left**progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Iterative(_Ramp):
    """A few rounds of pruning with training between them (Han et al. 2015, arXiv 1506.02626).

    Round r of R, the first at `begin_step` and the last at `end_step`, reaches a sparsity of
    final * r / R when `spacing` is "linear"; when it is "geometric", 1 - (1 - final)^(r / R): each
    round then removes the same share of what is left (Frankle & Carbin 2019, arXiv 1803.03635).
    """

    rounds: int = 5
    spacing: str = "linear"

    def __post_init__(self) -> None:
        if self.spacing not in ("linear", "geometric"):
            raise registry.unknown("spacing", self.spacing, ("linear", "geometric"))
        if self.rounds < 1:
            raise ValueError(f"schedule iterative: rounds={self.rounds} must be 1 or more")

    def _done(self, step: int) -> int:
        """Returns the rounds begun by `step`."""
        if step < self.begin_step:
            return 0
        if self.rounds == 1 or step >= self.end_step:
            return self.rounds
        span = max(self.end_step - self.begin_step, 1)
        return 1 + (step - self.begin_step) * (self.rounds - 1) // span

    def __call__(self, step: int) -> tuple[bool, float]:
        """Returns whether a round begins at `step`, and its sparsity."""
        done = self._done(step)
        share = done / self.rounds
        gap = self.final_sparsity - self.initial_sparsity
        left = (1 - self.final_sparsity) / (1 - self.initial_sparsity)
        sparsity = (
            self.initial_sparsity + gap * share
            if self.spacing == "linear"
            else 1 - (1 - self.initial_sparsity) * left**share
        )
        return done > self._done(step - 1), sparsity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternating(_Ramp):
    """Compressed and dense phases of one length in turn (Peste et al. 2021, arXiv 2106.12379).

    An odd number of phases lies between `begin_step` and `end_step`; the last is compressed, and
    so is what follows.
    """

    phases: int = 5

    def __post_init__(self) -> None:
        if self.phases < 1 or self.phases % 2 == 0:
            raise ValueError(f"schedule alternating: phases={self.phases} must be odd")

    def _phase(self, step: int) -> int:
        span = max(self.end_step - self.begin_step, 1)
        return min((step - self.begin_step) * self.phases // span, self.phases - 1)

    def __call__(self, step: int) -> tuple[bool, float]:
        """Returns whether a phase begins at `step`, and its sparsity."""
        phase = self._phase(step)
        begins = step == self.begin_step or phase > max(self._phase(step - 1), -1)
        dense = step < self.begin_step or phase % 2 == 1
        return begins and step >= self.begin_step, 0.0 if dense else self.final_sparsity


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShot:
    """All at once, at `begin_step`."""

    final_sparsity: float
    begin_step: int = 0

    def __call__(self, step: int) -> tuple[bool, float]:
        """Returns whether `step` is the one, and the sparsity."""
        return step == self.begin_step, self.final_sparsity if step >= self.begin_step else 0.0


def _polynomial(
    *,
    initial_sparsity: float,
    final_sparsity: float,
    begin_step: int,
    end_step: int,
    power: float,
    frequency: int,
) -> Schedule:
    """Zhu & Gupta 2017 (arXiv 1710.01878): fast at first, slow at the end."""
    return tfmot_schedules().PolynomialDecay(
        initial_sparsity, final_sparsity, begin_step, end_step, power, frequency
    )


def _constant(*, final_sparsity: float, begin_step: int, end_step: int, frequency: int) -> Schedule:
    return tfmot_schedules().ConstantSparsity(final_sparsity, begin_step, end_step, frequency)


_SCHEDULES = {
    "polynomial": (_polynomial, {"initial_sparsity": 0.0, "power": 3}),
    "constant": (_constant, {}),
    "one_shot": (OneShot, {}),
    "iterative": (Iterative, {"rounds": 5, "spacing": "linear", "initial_sparsity": 0.0}),
    "exponential": (Exponential, {"initial_sparsity": 0.0}),
    "cosine": (Cosine, {"initial_sparsity": 0.0}),
    "alternating": (Alternating, {"phases": 5}),
}


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


def names() -> list[str]:
    """Returns the names that `build` takes."""
    return sorted(_SCHEDULES)


def check(spec: str) -> tuple[str, dict[str, object]]:
    """Returns name and options of a call-string such as `"iterative(3, 'geometric')"`.

    Raises:
      ValueError: for an unknown name or option.
    """
    name, args, kwargs = registry.parse(spec)
    if name not in _SCHEDULES:
        raise registry.unknown("schedule", name, _SCHEDULES)
    defaults = _SCHEDULES[name][1]
    options = dict(zip(defaults, args, strict=False)) | kwargs
    if len(args) > len(defaults) or not options.keys() <= defaults.keys():
        raise ValueError(f"schedule {spec!r}: its options are {', '.join(defaults) or 'none'}")
    initial = options.get("initial_sparsity", 0.0)
    if not 0 <= initial < 1:
        raise ValueError(f"schedule {spec!r}: initial_sparsity={initial} is not in [0, 1)")
    maker = _SCHEDULES[name][0]
    if isinstance(maker, type) and issubclass(maker, _Ramp):  # it checks its own
        maker(final_sparsity=0.5, begin_step=0, end_step=1, **defaults | options)
    return name, defaults | options


def build(
    spec: str, *, final_sparsity: float, begin_step: int, end_step: int, frequency: int
) -> Schedule:
    """Returns the schedule that `spec` names, reaching `final_sparsity` at `end_step`.

    Raises:
      ValueError: for a wrong spec, or an end before the begin.
    """
    name, options = check(spec)
    if end_step < begin_step:
        raise ValueError(
            f"schedule {spec!r} ends (step {end_step}) before it begins ({begin_step})"
        )
    if end_step == begin_step:  # TFMOT's polynomial divides by their difference
        name, options = "one_shot", {}
    maker = _SCHEDULES[name][0]
    settings = {
        "final_sparsity": final_sparsity,
        "begin_step": begin_step,
        "end_step": end_step,
        "frequency": frequency,
    }
    taken = inspect.signature(maker).parameters
    return maker(**{key: value for key, value in settings.items() if key in taken}, **options)


def final_sparsity(schedule: object) -> float | None:
    """Returns the sparsity that a schedule object ends with, where it says so as TFMOT's do."""
    for attribute in ("final_sparsity", "target_sparsity"):
        if (value := getattr(schedule, attribute, None)) is not None:
            return float(value)
    return None


def tfmot_schedules() -> object:
    """Returns `tfmot.sparsity.keras`, imported without leaving its mark on the environment."""
    with _environment_kept():
        import tensorflow_model_optimization as tfmot
    return tfmot.sparsity.keras


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undoes the TF_USE_LEGACY_KERAS=1 that importing TFMOT sets for this and child processes."""
    name = "TF_USE_LEGACY_KERAS"
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
