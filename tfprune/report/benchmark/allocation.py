"""What each method keeps of each layer at one operating point, as a heat map of methods and layers.

One hue, darker for more kept, on a scale of square roots, since what counts is how little is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfprune.evaluation.methods import DENSE
from tfprune.report import formats, svg
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.formats import number

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _LEFT = 16, 128
_MOST_COLUMNS = 24  # that have their names below, and room for a number


def kept(table: pd.DataFrame, comparison: Comparison, point: float) -> pd.DataFrame:
    """Returns the share that is kept, a row a method and a column a layer, means over seeds.

    Where channels were pruned it is the share of each group's channels, else of each kernel's
    weights.
    Layers are in the order of the model. Replayed controls are left out: theirs are another's.
    """
    import pandas as pd

    rows = table[
        table["pair"].eq(comparison.pair)
        & table["axis"].eq(comparison.axis)
        & table["point"].eq(point)
        & table["method"].ne(DENSE)
        & table["replays"].isna()
    ]
    found = [
        {"method": row["method"], "layer": layer, "kept": share}
        for _, row in rows.iterrows()
        for layer, share in _shares(row)
    ]
    if not found:
        return pd.DataFrame()
    wide = pd.DataFrame(found).pivot_table("kept", "method", "layer", sort=False)
    order = [*comparison.methods, *comparison.controls]
    return wide.loc[[name for name in order if name in wide.index]]


def _shares(row: pd.Series) -> list[tuple[str, float]]:
    """Returns names and kept shares of the layers of a record, or of its groups of channels."""
    for column, left, whole in (
        ("channels", "kept", "channels"),
        ("layers", "nonzero_params", "params"),
    ):
        parts = row.get(column)
        shares = [
            (formats.plain(part.get("name")), part[left] / part[whole])
            for part in (parts if isinstance(parts, list) else [])
            if isinstance(part, Mapping)
            and number(part.get(left)) is not None
            and number(part.get(whole))
        ]
        if shares:
            return shares
    return []


def short(names: list[str]) -> list[str]:
    """Returns layer names without an ending that all have in common."""
    same = all(name.endswith("/kernel") for name in names)
    return [name.removesuffix("/kernel") if same else name for name in names]


def picture(comparison: Comparison, shares: pd.DataFrame, point: float) -> str:
    """Returns the heat map as an <svg> element."""
    rows = _ROW * len(shares)
    below = 10 + 5.4 * max(map(len, _layers(shares)))
    height = rows + below

    def draw(figure: Figure) -> None:
        width = (svg.WIDTH - _LEFT - 8) / svg.WIDTH
        axes = figure.add_axes((_LEFT / svg.WIDTH, below / height, width, rows / height))
        draw_heat_map(axes, shares)

    alt = f"{comparison.name} at {point:g} ×: share of each layer that is kept, a row a method"
    return svg.element(draw, height, alt)


def _layers(shares: pd.DataFrame) -> list[str]:
    """Returns what is written below the columns."""
    return [formats.elide(name, 16) for name in short(list(shares.columns))]


def draw_heat_map(axes: Axes, shares: pd.DataFrame) -> None:
    """Draws the shares, with numbers where there is room."""
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    values, norm = shares.to_numpy(), PowerNorm(0.5, 0, 1, clip=True)
    # One path a cell: a page may forbid pictures in pictures.
    axes.pcolormesh(
        np.arange(values.shape[1] + 1) - 0.5,
        np.arange(values.shape[0] + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=colormaps["Blues"],
        norm=norm,
    )
    axes.set_ylim(len(shares) - 0.5, -0.5)
    numbered = values.shape[1] <= _MOST_COLUMNS // 2
    for (row, column), value in np.ndenumerate(values):
        if numbered and np.isfinite(value):
            colour = "white" if norm(value) > 0.6 else "black"
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": colour}
            text = f"{100 * value:.0f}" if value > 0.095 else f"{100 * value:.1g}"
            axes.text(column, row, text, **style)
    methods = [formats.elide(formats.plain(name), 20) for name in shares.index]
    axes.set_yticks(range(len(methods)), methods, parse_math=False, fontsize=9.5)
    every = math.ceil(values.shape[1] / _MOST_COLUMNS)
    layers = _layers(shares)[::every]
    places = range(0, values.shape[1], every)
    axes.set_xticks(places, layers, rotation=90, parse_math=False, fontsize=8.5)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
