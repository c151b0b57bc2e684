"""The report of a benchmark: a self-contained page, figures and tables, from its records alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from tfprune.report.benchmark.comparison import Comparison


class Compared(NamedTuple):
    """The comparisons in a benchmark, and ranks by axis."""

    comparisons: list[Comparison]
    ranks: dict[str, pd.DataFrame]


def compare(table: pd.DataFrame) -> Compared:
    """Returns what is compared in a table of `tfprune.report.load`; many tests take a while.

    Replayed controls are left out of the ranks: they tell of a method, and compete with none.
    """
    from tfprune.evaluation import summary
    from tfprune.report.benchmark import comparison

    found = comparison.comparisons(summary.curves(table), summary.best(table))
    ranked = table[table["replays"].isna()]
    axes = dict.fromkeys(compared.axis for compared in found)
    ranks = {axis: summary.ranks(ranked[ranked["axis"].eq(axis)]) for axis in axes}
    return Compared(found, ranks)


def write(
    table: pd.DataFrame,
    folder: str | os.PathLike,
    *,
    compared: Compared | None = None,
    published: pd.DataFrame | None = None,
) -> Path:
    """Writes report.html, figures/ (PNG, SVG) and tables/ (CSV, LaTeX); each appears whole.

    Args:
      table: as `tfprune.report.load` has it.
      folder: made if it isn't there; files of the same names are replaced.
      compared: of `compare`, if it is known already.
      published: results to lay over the curves, as `tfprune.literature.load` has them.

    Returns:
      The path of the page.

    Raises:
      OSError: if it can't be written.
    """
    from tfprune.report.benchmark import allocation, figures, page, series, tables
    from tfprune.report.benchmark.comparison import chosen_point
    from tfprune.report.whole import whole

    folder = Path(folder)
    comparisons, ranks = compared or compare(table)
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    colours = series.coloured(comparisons)
    named = []
    for one in comparisons:
        point = chosen_point(one)
        kept = allocation.kept(table, one, point)
        name = _file_name(one, {name for name, *_ in named})
        named.append((name, one, kept))
        if series.panels(one):
            reported = series.published_points(one, published)
            figures.write(figures.overview(one, colours, reported), name, folder / "figures")
            if one.methods:
                figures.write(figures.one_by_one(one), f"{name}-methods", folder / "figures")
        if len(kept):
            drawing = figures.heat_map(one, kept, point)
            figures.write(drawing, f"{name}-layers", folder / "figures")
    for axis, found in ranks.items():
        if len(found) > 1:
            figures.write(figures.ranking(found), f"ranks-{axis}", folder / "figures")
    tables.write(named, ranks, table, folder / "tables")
    text = page.render(table, comparisons, ranks, published)
    with whole(folder / "report.html") as path:
        path.write_text(text, encoding="utf-8")
    return folder / "report.html"


def _file_name(compared: Comparison, taken: set[str]) -> str:
    """Returns a name for files that is one, whatever data set and model are called."""
    words = (compared.dataset, compared.model, compared.axis)
    name = "-".join(
        re.sub(r"[^\w.]+", "_", word, flags=re.ASCII).strip("._")[:40] for word in words
    )
    while name in taken:
        name += "_"
    return name
