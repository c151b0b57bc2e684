"""The critical-difference diagram of Demsar 2006, "Statistical Comparisons of Classifiers" (JMLR).

Turned on its side, so that any number of methods has room: a row a method, a bar joins those whose
mean ranks differ by less than the critical difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfprune.report import formats, svg
from tfprune.report.formats import number
from tfprune.report.svg import INK, PRUNED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _TOP, _BOTTOM, _LEFT = 15, 66, 12, 136
_WHOLE = {"shrinkA": 0, "shrinkB": 0}


def groups(ranks: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """Returns first and last of each largest run of ranks in which all differ by less.

    Args:
      ranks: mean ranks, the best (least) first.
      critical: the critical difference.
    """
    last = np.searchsorted(ranks, ranks + critical, side="right") - 1
    return [
        (first, int(end))
        for first, end in enumerate(last)
        # Those of one alone, and those that lie within that of the method before, say nothing new.
        if end > first and (first == 0 or end > last[first - 1])
    ]


def picture(ranks: pd.DataFrame) -> str:
    """Returns the diagram of `tfprune.evaluation.summary.ranks` as an <svg> element."""
    height = _TOP + _ROW * len(ranks) + _BOTTOM

    def draw(figure: Figure) -> None:
        width, tall = (svg.WIDTH - _LEFT - 12) / svg.WIDTH, _ROW * len(ranks) / height
        draw_diagram(figure.add_axes((_LEFT / svg.WIDTH, _BOTTOM / height, width, tall)), ranks)
        title = "Mean rank by accuracy: further left is better"
        figure.text(0.012, 1 - 6 / height, title, fontsize=11.5, weight="bold", va="top")

    said = ", ".join(
        f"{formats.plain(name)} {rank:.2f}" for name, rank in ranks["mean_rank"].items()
    )
    return svg.element(draw, height, f"Mean ranks, the best first: {said}")


def draw_diagram(axes: Axes, ranks: pd.DataFrame) -> None:
    """Draws mean ranks, and the bars of those that can't be told apart, if that is known."""
    means = ranks["mean_rank"].to_numpy()
    rows = np.arange(len(means))
    critical = number(ranks.attrs.get("critical_difference"))
    joined = [] if critical is None else groups(means, critical)
    axes.hlines(rows, 1, means, color=INK, linewidth=0.7, alpha=0.25)
    axes.plot(means, rows, linestyle="", marker="o", markersize=6, color=PRUNED)
    # Bars stand side by side, right of the dots, where those of other rows leave room.
    widest = max(len(means), 2)
    step = 0.045 * (widest - 1)
    free = means.max() + 0.07 * (widest - 1)
    for i, (first, last) in enumerate(joined):
        place = free + i * step
        style = {"color": INK, "linewidth": 2.6, "solid_capstyle": "round"}
        axes.plot([place, place], [first - 0.12, last + 0.12], **style)
    right = max(widest, free + (len(joined) - 0.5) * step)
    axes.set(xlim=(1 - 0.02 * widest, right), ylim=(len(means) - 0.4, -0.6))
    if critical is not None:
        above = 1 + 1.9 / len(means)
        axes.annotate(
            "",
            (1, above),
            (1 + critical, above),
            xycoords=("data", "axes fraction"),
            arrowprops={"arrowstyle": "|-|,widthA=0.25,widthB=0.25", "color": INK} | _WHOLE,
            annotation_clip=False,
        )
        axes.annotate(
            f"critical difference {critical:.2f}",
            (1 + critical, above),
            (7, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )
    names = [formats.elide(formats.plain(name), 21) for name in ranks.index]
    axes.set_yticks(rows, names, parse_math=False, fontsize=10)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
