"""Accuracy by what pruning saves: one panel a saving with all methods, and one panel a method.

More than eight curves can't be told apart in one panel, by any choice of colours. So the best eight
have a colour, a shape and their name at the end of their curve, the others are grey, and each
method has a small panel of its own, with its replayed controls, in which all others are grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tfprune.evaluation.methods import DENSE
from tfprune.report import formats, labels, svg
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.benchmark.series import Curve, Panel, Published, curves, panels
from tfprune.report.svg import INK, SERIES, SHIPPED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZES = {"o": 5.5, "D": 5, "^": 6.5, "s": 5.2, "v": 6.5, "P": 6.5, "X": 6.5, "p": 6.5}
_HEIGHT, _SMALL_WIDTH, _SMALL_HEIGHT = 290, 200, 150
_LINE = 12.5  # from one line of text at the ends of curves to the next
_NAME = 19  # characters of it
_CHANGES = (0, -1, -2, -5, -10, -20, -50)


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
