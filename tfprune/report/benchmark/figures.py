"""Figures of a benchmark as files: PNG and SVG, all panels of a comparison in one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tfprune.report import svg
from tfprune.report.benchmark import allocation, curves, diagram, series
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.whole import whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_PANEL = (5.6, 4.0)  # inches
_SMALL = (2.8, 2.2)
_DPI = 150


def overview(
    comparison: Comparison, colours: dict[str, int], published: Sequence[series.Published]
) -> Callable[[Figure], None]:
    """Returns what draws all panels of a comparison."""
    panels = series.panels(comparison)
    columns = min(len(panels), 2)

    def draw(figure: Figure) -> None:
        rows = math.ceil(len(panels) / columns)
        figure.set_size_inches(_PANEL[0] * columns, _PANEL[1] * rows + 0.4)
        tall = figure.get_figheight()
        figure.subplots_adjust(
            left=0.65 / figure.get_figwidth(),
            right=1 - 1.75 / figure.get_figwidth(),
            bottom=0.6 / tall,
            top=1 - 0.85 / tall,
            wspace=2.45 / 3.2,
            hspace=1.0 / 3.0,
        )
        figure.suptitle(
            comparison.name, x=0.1 / figure.get_figwidth(), ha="left", weight="bold", size=13
        ).set_parse_math(False)
        for i, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.set_title(panel.title, loc="left", fontsize=11.5, weight="bold")
            curves.draw_overview(axes, comparison, panel, colours, published)

    return draw


def one_by_one(comparison: Comparison) -> Callable[[Figure], None]:
    """Returns what draws each method in front of all others."""
    panel = series.panels(comparison)[0]
    every = series.curves(comparison, panel)
    drawn = {curve.method for curve in every}
    names = [name for name in comparison.methods if name in drawn]

    def draw(figure: Figure) -> None:
        columns = min(len(names), 4)
        rows = math.ceil(len(names) / columns)
        figure.set_size_inches(_SMALL[0] * columns, _SMALL[1] * rows + 0.4)
        figure.set_layout_engine("constrained")
        figure.suptitle(f"{comparison.name}: {panel.title.lower()}", weight="bold").set_parse_math(
            False
        )
        for i, name in enumerate(names):
            curves.draw_one(
                figure.add_subplot(rows, columns, i + 1), comparison, panel, every, name
            )

    return draw


def heat_map(
    comparison: Comparison, shares: pd.DataFrame, point: float
) -> Callable[[Figure], None]:
    """Returns what draws the layer allocations."""

    def draw(figure: Figure) -> None:
        figure.set_size_inches(3 + 0.36 * min(shares.shape[1], 24), 2 + 0.22 * len(shares))
        figure.set_layout_engine("constrained")
        allocation.draw_heat_map(figure.add_subplot(), shares)
        title = f"{comparison.name}\nkept of each layer at {point:g} ×, %"
        style = {"ha": "left", "fontsize": 11.5, "weight": "bold"}
        figure.suptitle(title, x=0.02, **style).set_parse_math(False)

    return draw


def ranking(ranks: pd.DataFrame) -> Callable[[Figure], None]:
    """Returns what draws the critical-difference diagram."""

    def draw(figure: Figure) -> None:
        figure.set_size_inches(6.4, 1.3 + 0.22 * len(ranks))
        tall = figure.get_figheight()
        axes = figure.add_axes((0.33, 0.2 / tall, 0.64, 1 - 1.1 / tall))
        diagram.draw_diagram(axes, ranks)
        figure.suptitle("Mean rank by accuracy", x=0.02, ha="left", weight="bold")

    return draw


def write(draw: Callable[[Figure], None], name: str, folder: Path) -> None:
    """Writes a figure as <name>.png and <name>.svg."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(svg.SETTINGS | {"svg.hashsalt": name}):
        figure = Figure()
        FigureCanvasAgg(figure)
        draw(figure)
        for ending, metadata in (("png", None), ("svg", {"Date": None})):
            with whole(folder / f"{name}.{ending}") as path:
                figure.savefig(path, dpi=_DPI, metadata=metadata, facecolor="white")
