"""Accuracy by what pruning saves: one panel a saving with all methods, and one panel a method.

More than eight curves can't be told apart in one panel, by any choice of colours. So the best eight
have a colour, a shape and their name at the end of their curve, the others are grey, and each
method has a small panel of its own, with its replayed controls, in which all others are grey.

Every axis is turned so that further right is smaller or faster, and higher is more accurate.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfprune.evaluation.methods import DENSE
from tfprune.report import formats, labels, svg
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.formats import number
from tfprune.report.svg import INK, SERIES, SHIPPED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHAPES = ("o", "D", "^", "s", "v", "P", "X", "p")
_SIZES = {"o": 5.5, "D": 5, "^": 6.5, "s": 5.2, "v": 6.5, "P": 6.5, "X": 6.5, "p": 6.5}
_CONTROLS = {"random": ":", "scratch": (0, (6, 2, 1, 2))}
_CONTROLS |= dict.fromkeys(("magnitude", "l1"), (0, (5, 2)))
_OTHER_CONTROL = (0, (3, 1, 1, 1, 1, 1))
_HEIGHT, _SMALL_WIDTH, _SMALL_HEIGHT = 290, 200, 150
_LINE = 12.5  # from one line of text at the ends of curves to the next
_NAME = 19  # characters of it
_CHANGES = (0, -1, -2, -5, -10, -20, -50)


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


def accuracy(row: Row, metric: str = "pruned_top1") -> str:
    """Returns mean and sample standard deviation in percent: "85.2 % ± 0.4"."""
    mean, spread = (number(row.get(f"{metric}_{end}")) for end in ("mean", "std"))
    text = formats.percent(mean, digits=1)
    return text if mean is None or spread is None else f"{text} ± {100 * spread:.1f}"


def seeds(n: object) -> str:
    """Returns how many there were."""
    return f"{int(n)} seed{'' if n == 1 else 's'}"


def overview(
    comparison: Comparison,
    panel: Panel,
    colours: dict[str, int],
    published: Sequence[Published] = (),
) -> str:
    """Returns a panel with all methods as an <svg> element."""

    def draw(figure: Figure) -> svg.Marks:
        axes = figure.add_subplot()
        figure.subplots_adjust(
            left=46 / svg.WIDTH,
            right=1 - 126 / svg.WIDTH,
            bottom=42 / _HEIGHT,
            top=1 - 30 / _HEIGHT,
        )
        figure.text(0.012, 0.985, panel.title, fontsize=11.5, weight="bold", va="top")
        return draw_overview(axes, comparison, panel, colours, published)

    alt = f"{comparison.name}: {panel.title}, a curve a method. The table below has the figures."
    return svg.element(draw, _HEIGHT, alt)


def draw_overview(
    axes: Axes,
    comparison: Comparison,
    panel: Panel,
    colours: dict[str, int],
    published: Sequence[Published] = (),
) -> svg.Marks:
    """Draws all methods; returns what belongs to their curves, points and names."""
    shown = [c for c in curves(comparison, panel, colours) if c.replays is None]
    marks: dict[str, tuple[svg.Attributes, list[svg.Attributes]]] = {}
    ends = []
    for i, curve in enumerate(shown):
        named = curve.control or curve.method in colours
        alpha = 0.75 if curve.control else 1 if named else 0.3
        marks |= _draw(axes, curve, f"c{i}", alpha=alpha, width=1.8 if curve.shape else 1.1)
        if named:
            ends.append(_end(curve, f"t{i}"))
            belongs = _belongs(curve.method, "curve")
            marks |= {f"t{i}": (belongs, []), f"t{i}a": (belongs, [])}
    if published and panel.change:
        marks |= _draw_published(axes, published)
    level = _dense_line(axes, comparison, panel)
    _scales(axes, comparison, panel, shown, published if panel.change else ())
    if level is not None:
        right = axes.get_xlim()[1]
        style = {"color": INK, "fontsize": 10}
        ends.append(labels.Label(right, level, "dense", style))
    labels.at_ends(axes, ends, gap=_LINE / (axes.bbox.height * 72 / axes.figure.dpi))
    return marks


def _end(curve: Curve, gid: str) -> labels.Label:
    last = curve.points[-1]
    weight = "bold" if curve.shape else "normal"
    style = {"color": curve.colour, "fontsize": 10, "weight": weight, "gid": gid}
    name = formats.elide(formats.plain(curve.method), _NAME if weight == "normal" else _NAME - 1)
    return labels.Label(last.x, last.y, name, style)


def _draw(
    axes: Axes, curve: Curve, gid: str, *, alpha: float, width: float
) -> dict[str, tuple[svg.Attributes, list[svg.Attributes]]]:
    xs, ys, x_spreads, y_spreads, said = zip(*curve.points, strict=True)
    front = 4 if curve.shape else 3 if curve.control else 2
    style = {"color": curve.colour, "alpha": alpha, "zorder": front}
    if curve.shape:
        spreads = {"xerr": x_spreads, "yerr": y_spreads}
        _, _, bars = axes.errorbar(xs, ys, **spreads, fmt="none", elinewidth=1, **style)
        for j, bar in enumerate(bars):
            bar.set_gid(f"{gid}e{j}")
    # Where there is no shape, there still is something to point at.
    axes.plot(
        xs,
        ys,
        gid=gid,
        linewidth=width,
        linestyle=curve.dashes,
        marker=curve.shape or "o",
        markersize=_SIZES.get(curve.shape, 2.2),
        markeredgewidth=0,
        **style,
    )
    belongs = _belongs(curve.method, "curve")
    points = [_belongs(curve.method, "point") | _speaks(text) for text in said]
    if len(points) > 1 and said[0].startswith(f"{DENSE}: "):
        points[0] |= {"data-dense": ""}
    found = {gid: (belongs, points)}
    if curve.shape:
        found |= {f"{gid}e{j}": (belongs, []) for j in range(2)}
    return found


def _belongs(method: str, kind: str) -> svg.Attributes:
    return {"class": kind, "data-method": formats.plain(method)}


def _speaks(text: str) -> svg.Attributes:
    return {"role": "img", "tabindex": "-1", "aria-label": text}


def _draw_published(
    axes: Axes, published: Sequence[Published]
) -> dict[str, tuple[svg.Attributes, list[svg.Attributes]]]:
    found = {}
    for same, shape, size, alpha in ((False, "s", 3, 0.35), (True, "o", 6, 0.8)):
        points = [point for point in published if point.same_model == same]
        if points:
            gid = f"published{same:d}"
            axes.plot(
                [point.x for point in points],
                [point.y for point in points],
                gid=gid,
                linestyle="",
                marker=shape,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=INK,
                alpha=alpha,
                zorder=1,
            )
            belongs = {"class": "point published"}
            found[gid] = ({}, [belongs | _speaks(point.words) for point in points])
    return found


def _dense_line(axes: Axes, comparison: Comparison, panel: Panel) -> float | None:
    if comparison.dense_top1 is None:
        return None
    level = 0.0 if panel.change else 100 * comparison.dense_top1
    axes.axhline(level, color=INK, linewidth=0.9, alpha=0.8, zorder=1.5)
    return level


def _scales(
    axes: Axes,
    comparison: Comparison,
    panel: Panel,
    shown: Sequence[Curve],
    published: Sequence[Published] = (),
    *,
    small: bool = False,
) -> None:
    from matplotlib import ticker

    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=3)
    points = [point for curve in shown for point in curve.points]
    xs = [point.x for point in points] + [point.x for point in published]
    low, high = min(xs), max(xs)
    margin = max((high / low) ** 0.04, 1.02)
    axes.set_xscale("log")
    axes.set_xlim(*sorted((low / margin, high * margin), reverse=panel.smaller))
    if panel.x == comparison.reached:
        ticks = [
            point for point in [1, *comparison.points] if low / margin <= point <= high * margin
        ]
        axes.xaxis.set_major_locator(ticker.FixedLocator(_thinned(ticks, 4 if small else 9)))
    else:
        steps = (1, 2, 5) if high > 4 * low else (1, 1.5, 2, 3, 4, 6, 8)
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=steps, numticks=4 if small else 9))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: panel.tick(value)))
    _scale_y(axes, panel, [point.y for point in points] + [point.y for point in published], small)
    if not small:
        axes.set_xlabel(panel.label, parse_math=False)


def _scale_y(axes: Axes, panel: Panel, ys: Sequence[float], small: bool) -> None:
    from matplotlib import ticker

    low, high = min(ys), max(ys)
    if panel.change:
        axes.set_yscale("symlog", linthresh=1, linscale=0.6)
        # The scale is a logarithm beyond 1: room above and below is a factor there.
        axes.set_ylim(min(1.25 * low, -1.5), max(1.25 * high, 0.4))
        ticks = [t for t in (5, 2, 1, *_CHANGES) if axes.get_ylim()[0] <= t <= axes.get_ylim()[1]]
        axes.set_yticks(ticks, [f"{t:+g}".replace("-", formats.MINUS) if t else "0" for t in ticks])
        axes.yaxis.set_minor_locator(ticker.NullLocator())
        return
    # A collapse is seen as one only if 0 is there; without one it would hide the differences.
    bottom = 0 if low < 0.6 * high else low - 0.15 * (high - low) - 0.5
    axes.set_ylim(bottom, high + 0.06 * (high - bottom))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(3 if small else 6, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g} %"))


def _thinned(ticks: Sequence[float], most: int) -> Sequence[float]:
    return ticks[:: -(-len(ticks) // most)]


def _times(value: float) -> str:
    return f"{value:g} ×"


def _size(value: float) -> str:
    return formats.size(value).replace(".00", "").replace(".0 ", " ")


def one_by_one(comparison: Comparison) -> list[tuple[str, str]]:
    """Returns for each method its name and a small panel of it in front of all others."""
    (panel, *_) = panels(comparison) or [None]
    if panel is None:
        return []
    every = curves(comparison, panel)

    def picture(method: str) -> str:
        def draw(figure: Figure) -> svg.Marks:
            axes = figure.add_subplot()
            figure.subplots_adjust(left=0.19, right=0.98, bottom=0.16, top=0.86)
            return draw_one(axes, comparison, panel, every, method)

        alt = f"{comparison.name}: {formats.plain(method)} in front of all others"
        return svg.element(draw, _SMALL_HEIGHT, alt, width=_SMALL_WIDTH)

    drawn = {curve.method for curve in every}
    return [(name, picture(name)) for name in comparison.methods if name in drawn]


def draw_one(
    axes: Axes, comparison: Comparison, panel: Panel, every: Sequence[Curve], method: str
) -> svg.Marks:
    """Draws one method, its replays and the controls that all share, in front of all others."""
    marks = {}
    for i, curve in enumerate(every):
        xs, ys = [p.x for p in curve.points], [p.y for p in curve.points]
        if curve.method == method:
            own = curve._replace(colour=SERIES[0], shape="o")
            marks |= _draw(axes, own, f"c{i}", alpha=1, width=2)
        elif curve.replays == method:
            line = {"linestyle": curve.dashes, "linewidth": 1.5}
            axes.plot(xs, ys, color=SHIPPED, zorder=3.5, **line)
        elif curve.control and curve.replays is None:
            axes.plot(xs, ys, color=INK, linestyle=curve.dashes, linewidth=1, alpha=0.7, zorder=3)
        elif not curve.control:
            axes.plot(xs, ys, color=INK, linewidth=0.7, alpha=0.2, zorder=2)
    _dense_line(axes, comparison, panel)
    _scales(axes, comparison, panel, every, small=True)
    axes.tick_params(labelsize=8.5, length=2)
    title = formats.elide(formats.plain(method), 26)
    axes.set_title(title, fontsize=9.5, weight="bold", loc="left", parse_math=False)
    return marks


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
