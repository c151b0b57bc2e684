"""What is drawn of a comparison: curves of points with their spread, the axes they are drawn along.

Every axis is turned so that further right is smaller or faster, and higher is more accurate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfprune.evaluation.methods import DENSE
from tfprune.report import formats
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.formats import number
from tfprune.report.svg import INK, SERIES

if TYPE_CHECKING:
    import pandas as pd

SHAPES = ("o", "D", "^", "s", "v", "P", "X", "p")
_CONTROLS = {"random": ":", "scratch": (0, (6, 2, 1, 2))}
_CONTROLS |= dict.fromkeys(("magnitude", "l1"), (0, (5, 2)))
_OTHER_CONTROL = (0, (3, 1, 1, 1, 1, 1))

# Of `tfprune.evaluation.summary.curves`: what is known of a method at a point.
Row = Mapping[str, object]


class Point(NamedTuple):
    """A mean over seeds with its sample standard deviations (NaN: of one seed), and in words."""

    x: float
    y: float
    x_spread: float
    y_spread: float
    words: str


class Curve(NamedTuple):
    """A method's points, from the dense model on, and how it is drawn."""

    method: str
    colour: str
    shape: str
    dashes: object
    control: bool
    replays: str | None
    points: list[Point]


class Panel(NamedTuple):
    """A picture's axes.

    Attributes:
      title: what it shows.
      x: the metric along it.
      label: what that is, with its direction.
      tick: how its numbers read.
      change: whether accuracy is shown as its change against dense, on a scale that spreads what is
        near 0, instead of as it is.
    """

    title: str
    x: str
    label: str
    tick: Callable[[float], str]
    change: bool = False

    @property
    def smaller(self) -> bool:
        """Returns whether less of it is better."""
        return not self.x.endswith(("compression_ratio", "theoretical_speedup"))


class Published(NamedTuple):
    """A result as its authors reported it: saving, change of top-1 in points, and in words."""

    x: float
    y: float
    words: str
    same_model: bool


def coloured(comparisons: Sequence[Comparison]) -> dict[str, int]:
    """Returns which methods have a colour and shape of their own, the same in all comparisons."""
    names = dict.fromkeys(itertools.chain.from_iterable(c.methods for c in comparisons))
    by_place = sorted(names, key=lambda name: min(_places(comparisons, name)))
    return {name: i for i, name in enumerate(by_place[: len(SERIES)])}


def _places(comparisons: Sequence[Comparison], name: str) -> list[int]:
    return [c.methods.index(name) for c in comparisons if name in c.methods]


def panels(comparison: Comparison) -> list[Panel]:
    """Returns the panels for which there are figures."""
    ratios = {
        "compression_ratio": ("compression", "compression ratio"),
        "theoretical_speedup": ("theoretical speed-up", "theoretical speed-up"),
    }
    main = comparison.reached
    title, label = ratios.pop(main)
    found = [Panel(f"Top-1 against {title}", main, label, _times)]
    if comparison.dense_top1 is not None:
        found.append(Panel("Change against the dense model", main, label, _times, change=True))
    found += [Panel(f"Top-1 against {t}", x, label, _times) for x, (t, label) in ratios.items()]
    for ending, title, label, tick in (
        ("_gzip_bytes", "size", "gzip size of the {} file (smaller →)", _size),
        ("_latency_ratio", "latency", "latency of {} relative to dense (faster →)", "{:g}".format),
    ):
        variant = _variant(comparison, ending)
        if variant is not None:
            name = formats.elide(formats.plain(variant), 16)
            found.append(
                Panel(f"Top-1 against {title}", variant + ending, label.format(name), tick)
            )
    return [panel for panel in found if _tells(comparison, panel)]


def _tells(comparison: Comparison, panel: Panel) -> bool:
    """Returns whether methods differ along the panel: zeros that a runtime doesn't skip do not."""
    rows = comparison.curves.to_dict("records")
    xs = [row[f"{panel.x}_mean"] for row in rows if _has(row, panel)]
    return bool(xs) and (panel.x == comparison.reached or max(xs) > 1.05 * min(xs))


def _variant(comparison: Comparison, ending: str) -> str | None:
    """Returns the file in which least is left: of float32 ones, as that is what top-1 is of."""
    ending += "_mean"
    means = comparison.curves.filter(regex=f"{ending}$").mean().dropna()
    if means.empty:
        return None
    of_float = means[means.index.str.startswith("float32")]
    return (of_float if len(of_float) else means).idxmin().removesuffix(ending)


def _has(row: Row, panel: Panel) -> bool:
    return all((number(row.get(f"{key}_mean")) or 0) > 0 for key in (panel.x, "pruned_top1"))


def curves(
    comparison: Comparison, panel: Panel, colours: dict[str, int] | None = None
) -> list[Curve]:
    """Returns the curves of a panel, controls first, so that methods are drawn over them."""
    colours = colours or {}
    found = []
    dense = None if comparison.dense is None else comparison.dense.to_dict()
    every = comparison.curves.sort_values("point").groupby("method")
    by_method = {name: rows.to_dict("records") for name, rows in every}
    for name in [*comparison.controls, *reversed(comparison.methods)]:
        points = [_point(comparison, panel, row) for row in by_method[name] if _has(row, panel)]
        if not points:
            continue
        if dense is not None and _has(dense, panel):
            points.insert(0, _point(comparison, panel, dense))
        control, place = name in comparison.controls, colours.get(name)
        replays = by_method[name][0]["replays"]
        found.append(
            Curve(
                name,
                INK if place is None else SERIES[place],
                "" if place is None else SHAPES[place],
                dashes(name) if control else "-",
                control,
                replays if isinstance(replays, str) else None,
                points,
            )
        )
    return found


def dashes(control: str) -> object:
    """Returns the style of a control's line, by what it does: "random@snip/global" is random."""
    return _CONTROLS.get(control.partition("@")[0].partition("/")[0], _OTHER_CONTROL)


def _point(comparison: Comparison, panel: Panel, row: Row) -> Point:
    def mean(key: str) -> float:
        return number(row.get(f"{key}_mean")) or 0.0

    def spread(key: str) -> float:
        found = number(row.get(f"{key}_std"))
        return np.nan if found is None else found

    y = 100 * mean("pruned_top1")
    if panel.change:
        y -= 100 * (comparison.dense_top1 or 0)
    return Point(
        mean(panel.x), y, spread(panel.x), 100 * spread("pruned_top1"), words(comparison, row)
    )


def words(comparison: Comparison, row: Row) -> str:
    """Returns in a line what is known of a method at a point."""
    dense = row["method"] == DENSE
    name = formats.plain(row["method"]) + ("" if dense else f" at {row['point']:g} ×")
    text = f"{name}: top-1 {accuracy(row)}, {seeds(row['n'])}"
    if not dense and comparison.dense_top1 is not None:
        change = formats.points(row["pruned_top1_mean"], comparison.dense_top1, digits=1)
        text += f"; {change} points against dense"
    for key, what in (("compression_ratio", "compression"), ("theoretical_speedup", "speed-up")):
        if number(row.get(f"{key}_mean")) is not None:
            text += f"; {what} {formats.ratio(row[f'{key}_mean'])}"
    return text


def accuracy(row: Row) -> str:
    """Returns mean and sample standard deviation in percent: "85.2 % ± 0.4"."""
    mean, spread = (number(row.get(f"pruned_top1_{end}")) for end in ("mean", "std"))
    text = formats.percent(mean, digits=1)
    return text if mean is None or spread is None else f"{text} ± {100 * spread:.1f}"


def seeds(n: object) -> str:
    """Returns how many there were."""
    return f"{int(n)} seed{'' if n == 1 else 's'}"


def published_points(comparison: Comparison, published: pd.DataFrame | None) -> list[Published]:
    """Returns the published results on the comparison's data set that say what they saved."""
    if published is None:
        return []

    def same(column: str, name: str) -> pd.Series:
        return published[column].map(_letters).eq(_letters(name))

    rows = published[same("dataset", comparison.dataset)]
    rows = rows.dropna(subset=[comparison.reached, "delta_top1"])
    return [
        Published(
            row[comparison.reached],
            row["delta_top1"],
            _reported(row, comparison.reached),
            _letters(row["architecture"]) == _letters(comparison.model),
        )
        for _, row in rows.iterrows()
    ]


def _reported(row: pd.Series, saving: str) -> str:
    change = f"{row['delta_top1']:+.2f}".replace("-", formats.MINUS)
    return (
        f"{formats.plain(row['method'])} on {formats.plain(row['architecture'])}, as reported by "
        f"its authors: {formats.ratio(row[saving])}, {change} points"
    )


def _letters(name: object) -> str:
    """Returns a name as it compares with others: "CIFAR-10" as "cifar10"."""
    return "".join(c for c in str(name).lower() if c.isalnum())


def _times(value: float) -> str:
    return f"{value:g} ×"


def _size(value: float) -> str:
    return formats.size(value).replace(".00", "").replace(".0 ", " ")
