"""The picture of a layer sensitivity scan: where a network can be cut.

One hue, darker for more, so that it reads the same for all eyes and on paper; the curves that count
are named where they end, in blue and vermilion (Okabe & Ito, "Color Universal Design", 2008).
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from tfprune.report import formats, labels
from tfprune.report.svg import PRUNED, SHIPPED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# What a layer may lose and still count as one that can be cut: a point, or a tenth of a loss of 1.
_TOLERATED = {"top1_change": 1.0, "loss_change": 0.1}
_NAMED = 4  # curves at each end
_ROW, _TOP, _BETWEEN, _CURVES, _BOTTOM = 0.23, 1.2, 0.6, 4.2, 0.6  # inches
_GAP = 0.052  # between two names, as a share of the curves' height
_TICKS = {
    True: (0, -1, -2, -5, -10, -20, -40, -60, -80),
    False: (0, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 50, 100),
}


def write(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes a picture of the table of `tfprune.scan`: a heat map, and the curves below.

    Args:
      table: one row a point.
      path: the file, of a kind that its ending names: .png, .svg, .pdf.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = "top1_change" in table and table["top1_change"].notna().any()
    column = "top1_change" if known else "loss_change"
    order = table["layer"].drop_duplicates()
    changes = table.pivot(index="layer", columns="sparsity", values=column).loc[order]
    lost = -100 * changes if known else changes
    rows = _ROW * len(order)
    total = _TOP + rows + _BETWEEN + _CURVES + _BOTTOM
    with matplotlib.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": column}):
        figure = Figure(figsize=(10, total))
        FigureCanvasAgg(figure)

        def panel(left: float, width: float, top: float, height: float) -> Axes:
            box = (left, 1 - (top + height) / total, width, height / total)
            return figure.add_axes(box)

        names = _short(list(order))
        tolerated = _TOLERATED[column]
        ends = _heat_map(panel(0.2, 0.5, _TOP, rows), names, lost, tolerated, known=known)
        columns = {"params_removed": "parameters", "macs_removed": "MACs"}
        for i, (saved, title) in enumerate((c, t) for c, t in columns.items() if c in table):
            axes = panel(0.71 + 0.145 * i, 0.135, _TOP, rows)
            wide = table.pivot(index="layer", columns="sparsity", values=saved).loc[order]
            _savings(axes, f"{title} saved\nat the line", wide.to_numpy(), ends)
        figure.text(
            0.02,
            1 - 0.3 / total,
            "What each layer loses when it alone is pruned",
            fontsize=13,
            weight="bold",
            va="center",
        )
        unit = "points of top-1" if known else "rise of the loss"
        limit = "1 point" if known else f"{tolerated:g}"
        figure.text(
            0.02,
            1 - 0.56 / total,
            f"{unit}, without fine-tuning; left of the line it is at most {limit}",
            va="center",
        )
        curves = panel(0.08, 0.68, _TOP + rows + _BETWEEN, _CURVES)
        _draw_curves(curves, names, lost, tolerated, known=known)
        nothing = {"Date": None} if str(path).endswith(".svg") else None
        figure.savefig(path, dpi=130, metadata=nothing)


def _short(names: list[str]) -> list[str]:
    """Returns layer names without an ending that all have in common, no longer than fits."""
    if all(name.endswith("/kernel") for name in names):
        names = [name.removesuffix("/kernel") for name in names]
    return [formats.elide(formats.plain(name), 26) for name in names]


def _heat_map(
    axes: Axes, names: list[str], lost: pd.DataFrame, tolerated: float, *, known: bool
) -> np.ndarray:
    """Draws what is lost; returns for each layer how many columns are within what is tolerated."""
    from matplotlib.colors import PowerNorm

    values = lost.to_numpy()
    norm = PowerNorm(0.5, 0, max(np.nanmax(values), tolerated), clip=True)
    axes.imshow(values, aspect="auto", cmap="Oranges", norm=norm)
    dark = norm(np.maximum(np.nan_to_num(values), 0)) > 0.62
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(
                column,
                row,
                _figure(-value, 1) if known else _figure(value, 2),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if dark[row, column] else "black",
            )
    within = np.cumprod(values <= tolerated + 1e-6, axis=1).sum(axis=1)
    edges = np.repeat(within - 0.5, 2)
    ys = np.repeat(np.arange(len(within) + 1) - 0.5, 2)[1:-1]
    axes.plot(edges, ys, color=PRUNED, linewidth=2.5, solid_joinstyle="miter", clip_on=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xticks(range(len(lost.columns)), [f"{100 * s:g} %" for s in lost.columns])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("share of the layer that is pruned")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return within


def _figure(change: float, digits: int) -> str:
    """Returns a change with as many digits as say something."""
    text = f"{change:+.{digits}f}" if abs(change) < 9.95 else f"{change:+.0f}"
    return "0" if float(text) == 0 else text.replace("-", formats.MINUS)


def _savings(axes: Axes, title: str, saved: np.ndarray, ends: np.ndarray) -> None:
    """Draws beside each layer what the whole model saves if it is cut at the line."""
    values = np.concatenate([np.zeros((len(saved), 1)), saved], axis=1)
    values = values[np.arange(len(values)), ends]
    axes.barh(range(len(values)), values, height=0.62, color=PRUNED)
    top = max(values.max(), 1)
    axes.set(xlim=(0, 1.75 * top), ylim=(len(values) - 0.5, -0.5), xticks=[], yticks=[])
    for row, value in enumerate(values):
        text = formats.short_count(int(value))
        axes.text(value + 0.04 * top, row, text, va="center", fontsize=8)
    axes.set_title(title, fontsize=9, loc="left")
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_curves(
    axes: Axes, names: list[str], lost: pd.DataFrame, tolerated: float, *, known: bool
) -> None:
    """Draws a curve a layer, and names those that lose the most and the least."""
    values = -lost.to_numpy() if known else lost.to_numpy()
    xs = 100 * np.concatenate([[0.0], lost.columns.to_numpy()])
    ranked = np.argsort(np.nanmean(lost.to_numpy(), axis=1), kind="stable")
    few = min(_NAMED, math.ceil(len(ranked) / 4))
    colours = dict.fromkeys(ranked[:few], PRUNED)
    colours |= dict.fromkeys(ranked[max(len(ranked) - few, few) :], SHIPPED)
    # What is small counts: it is where one would cut.
    axes.set_yscale("function", functions=(_root, _square))
    for row, line in enumerate(values):
        colour = colours.get(row)
        axes.plot(
            xs,
            np.concatenate([[0.0], line]),
            color=colour or "#9a9a9a",
            linewidth=1.8 if colour else 0.8,
            linestyle="--" if colour == SHIPPED else "-",
            zorder=3 if colour else 2,
        )
    spare = np.nanmax(np.abs(values)) / 500
    low, high = min(np.nanmin(values), 0) - spare, max(np.nanmax(values), 0) + spare
    axes.set_ylim(low, high)
    ticks = [t for t in _TICKS[known] if low <= t <= high]
    axes.set_yticks(ticks, [f"{t:g}".replace("-", formats.MINUS) for t in ticks])
    limit = -tolerated if known else tolerated
    axes.axhline(limit, color="black", linewidth=0.9, linestyle=":", zorder=1)
    axes.set_xlim(0, xs[-1])
    ends = [
        labels.Label(xs[-1], values[row, -1], names[row], {"color": colour})
        for row, colour in colours.items()
    ]
    labels.at_ends(axes, ends, gap=_GAP)
    axes.set_xticks(np.arange(0, xs[-1] + 1, 10))
    axes.set_xlabel("share of the layer that is pruned, %")
    axes.set_ylabel("change of top-1, points" if known else "change of the loss")
    axes.set_title(
        "By sparsity; named are the layers that lose the least (blue) and the most (dashed)",
        loc="left",
        fontsize=10.5,
        weight="bold",
    )
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def _square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)
