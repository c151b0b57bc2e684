"""A grid of trials: pairs x methods x operating points x seeds, and the controls beside them.

A grid is said by a protocol (a preset), by a TOML file, and by flags, each of which overrides the
one before. All have the same names, those of `Grid`'s and `Pair`'s fields:

    protocol = "shrinkbench"
    methods = ["magnitude/global", "snip", "obc/global"]
    seeds = [0, 1, 2]

    [[pairs]]
    model = "resnet8"
    dataset = "cifar10"
    augment = "flip_crop"

    [[pairs]]
    model = "trained.keras"
    dataset = "mine.npz"
    points = [1, 2, 4]        # what holds for this pair alone
"""

import dataclasses
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping

from tfprune import registry
from tfprune.evaluation import methods
from tfprune.evaluation.records import AXES
from tfprune.evaluation.settings import Pair, Trial
from tfprune.tflite.variants import VARIANTS

_COMMON = {
    "seeds": (0, 1, 2),
    "epochs": 30.0,
    "learning_rate": 3e-4,
    "batch_size": 64,
    "controls": methods.CONTROLS,
}
PROTOCOLS = {
    # Operating points, seeds, optimizer and rate of Blalock et al. 2020 (arXiv 2003.03033).
    "shrinkbench": {
        **_COMMON,
        "granularity": "weight",
        "axis": "compression",
        "allocation": "global",
        "points": (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
        "methods": ("magnitude/global", "magnitude/uniform", "grad/global", "grad/uniform"),
        "variants": ("float32_sparse",),
    },
    "structured": {
        **_COMMON,
        "granularity": "channel",
        "axis": "macs",
        "allocation": "uniform",
        "points": (1.0, 1.5, 2.0, 3.0, 4.0, 8.0),
        "methods": ("l1", "fpgm", "taylor", "cup"),
        "variants": ("float32",),
    },
}


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared, under one protocol.

    Attributes:
      pairs: networks with their data.
      protocol: the preset.
      methods: names as in `tfprune.evaluation.methods`.
      controls: which controls are added, of `methods.CONTROLS`.
      points: operating points, from 1, where nothing is pruned.
      axis: what they count: "compression" or "macs".
      seeds: of each trial.
      granularity: what is pruned together.
      allocation: of methods that name none.
      epochs, learning_rate: of fine-tuning, which may be part of an epoch.
      scratch_epochs: of a network from scratch; if None, the dense network's and the fine-tuning's.
      calibration_samples: training examples from which scores are computed.
      protect: layers left dense; the classifier if None.
      variants: TFLite files to make, check and time.
      verify_samples: test examples on which these are checked against Keras.
    """

    pairs: tuple[Pair, ...]
    protocol: str
    methods: tuple[str, ...]
    controls: tuple[str, ...]
    points: tuple[float, ...]
    axis: str
    seeds: tuple[int, ...]
    granularity: str
    allocation: str
    epochs: float
    learning_rate: float
    scratch_epochs: float | None = None
    calibration_samples: int = 1024
    protect: tuple[str, ...] | None = None
    variants: tuple[str, ...] = ()
    verify_samples: int = 500

    def trials(self) -> list[Trial]:
        """Returns all trials, each once, those that others replay before these.

        All of the first seed come first, so that a grid that is stopped is a smaller grid.
        """
        plain = "l1" if registry.parse(self.granularity)[0] == "channel" else "magnitude"
        chosen = [
            methods.parse(text, granularity=self.granularity, allocation=self.allocation)
            for text in self.methods
        ]
        kinds = [kind for kind in self.controls if kind != methods.SCRATCH or plain == "l1"]
        added = methods.controls(chosen, kinds=kinds, plain=plain)
        every = dict.fromkeys([*chosen, *added])
        found: dict[str, Trial] = {}
        for seed in self.seeds:
            for point in sorted({1.0, *self.points}):
                for pair in self.pairs:
                    for method in every:
                        # At 1 nothing is pruned: it is the dense network whatever the method.
                        if (point == 1) != (method.special == methods.DENSE):
                            continue
                        trial = self._trial(pair, method, point, seed, control=method not in chosen)
                        for needed in (trial.origin, trial):
                            if needed is not None:
                                found.setdefault(needed.id, needed)
        return list(found.values())

    def _trial(
        self, pair: Pair, method: methods.Method, point: float, seed: int, *, control: bool
    ) -> Trial:
        from_scratch = self.scratch_epochs
        if from_scratch is None:
            from_scratch = pair.train_epochs + self.epochs
        return Trial(
            protocol=self.protocol,
            pair=pair,
            method=method,
            control=control,
            granularity=self.granularity,
            axis=self.axis,
            point=float(point),
            seed=seed,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            scratch_epochs=from_scratch,
            calibration_samples=self.calibration_samples,
            protect=self.protect,
            variants=self.variants,
            verify_samples=self.verify_samples,
        )


_PAIR = {field.name: field for field in dataclasses.fields(Pair)}
_GRID = {field.name: field for field in dataclasses.fields(Grid)}


def read(path: str | os.PathLike) -> dict[str, object]:
    """Returns what a grid file says.

    Raises:
      ValueError: if it is no TOML.
      OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        try:
            return tomllib.load(file)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"grid file {os.fspath(path)}: {error}") from None


def build(
    said: Mapping[str, object],
    overriding: Mapping[str, object] = types.MappingProxyType({}),
    *,
    source: str = "the grid",
) -> list[Grid]:
    """Returns the grids that were asked for: one for all pairs that share all settings.

    Args:
      said: names of `Grid` and `Pair` and their values, `pairs` among them: a list of tables,
        each of which may override any setting for itself.
      overriding: the same, of which each wins over what is said of a pair.
      source: what an error calls it.

    Raises:
      ValueError: for a wrong name, type or value, or an operating point that can't be.
    """
    said, overriding = {**said, **overriding}, dict(overriding)
    overriding.pop("pairs", None)
    protocol = said.get("protocol", "shrinkbench")
    if protocol not in PROTOCOLS:
        raise registry.unknown("protocol", str(protocol), PROTOCOLS)
    pairs = said.get("pairs")
    if not isinstance(pairs, list | tuple) or not pairs:
        raise ValueError(f"{source} names no pairs of model and dataset")
    shared = {key: value for key, value in said.items() if key not in ("pairs", "protocol")}
    grids: dict[Grid, list[Pair]] = {}
    for number, own in enumerate(pairs, 1):
        where = f"{source}, pair {number}"
        if not isinstance(own, Mapping):
            raise ValueError(f"{where} is {own!r}: a table with model and dataset is needed")
        settings = {**PROTOCOLS[protocol], **shared, **own, **overriding, "protocol": protocol}
        for key in settings:
            if key == "pairs" or (key not in _PAIR and key not in _GRID):
                raise registry.unknown(f"setting of {where}:", key, {*_PAIR, *_GRID})
        values = {key: _typed(key, value, where) for key, value in settings.items()}
        for key in ("model", "dataset"):
            if key not in values:
                raise ValueError(f"{where} has no {key}")
        pair = Pair(**{key: value for key, value in values.items() if key in _PAIR})
        rest = {key: value for key, value in values.items() if key in _GRID}
        grid = Grid(**rest | {"pairs": ()})
        _check(grid, where)
        grids.setdefault(grid, []).append(pair)
    return [dataclasses.replace(grid, pairs=tuple(found)) for grid, found in grids.items()]


def trials(grids: list[Grid]) -> Iterator[Trial]:
    """Yields the trials of several grids, seed by seed."""
    every = [trial for grid in grids for trial in grid.trials()]
    yield from sorted(every, key=lambda trial: trial.seed)


def _typed(key: str, value: object, where: str) -> object:
    """Returns a value of the type that its setting has.

    Raises:
      ValueError: if it isn't.
    """
    wanted = (_PAIR.get(key) or _GRID[key]).type
    options = [wanted]
    if isinstance(wanted, types.UnionType):
        options = [option for option in wanted.__args__ if option is not type(None)]
        if value is None:
            return None
    kind = options[0]
    inner = typing.get_args(kind)
    many = bool(inner)
    values = value if many and isinstance(value, list | tuple) else [value]
    one = inner[0] if many else kind
    if one is float:
        values = [float(x) if type(x) is int else x for x in values]
    if (many and not isinstance(value, list | tuple)) or any(type(x) is not one for x in values):
        form = f"a list of {one.__name__}" if many else f"a {one.__name__}"
        raise ValueError(f"{where}: {key} = {value!r}, where {form} is needed")
    return tuple(values) if many else values[0]


def _check(grid: Grid, where: str) -> None:
    """Raises a ValueError for values that no network could make sense of."""
    for text in grid.methods:
        try:
            methods.parse(text, granularity=grid.granularity, allocation=grid.allocation)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    for kind, name, known in (
        *(("control", name, methods.CONTROLS) for name in grid.controls),
        *(("variant", name, VARIANTS) for name in grid.variants),
        ("axis", grid.axis, AXES),
    ):
        if name not in known:
            raise registry.unknown(f"{kind} of {where}:", name, known)
    for point in grid.points:
        if not 1 <= point < float("inf"):
            raise ValueError(
                f"{where}: operating point {point:g} is impossible: it is original over remaining "
                f"{'MACs' if grid.axis == 'macs' else 'parameters'}, 1 or more"
            )
    for key, least in (
        ("epochs", 0),
        ("learning_rate", 0),
        ("calibration_samples", 1),
        ("verify_samples", 1),
    ):
        if not least <= getattr(grid, key) < float("inf"):
            raise ValueError(f"{where}: {key} = {getattr(grid, key)}: {least} or more is needed")
    for key in ("methods", "points", "seeds"):
        if not getattr(grid, key):
            raise ValueError(f"{where}: {key} is empty")
