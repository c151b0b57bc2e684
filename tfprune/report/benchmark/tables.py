"""Tables of a benchmark: of the page, of the console, and as CSV and LaTeX files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from tfprune.evaluation.methods import DENSE
from tfprune.report import formats
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.formats import number

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

# What LaTeX takes for commands, and what it lacks.
_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
    }
)


class Cell(NamedTuple):
    """A method at a point.

    Attributes:
      mean: of top-1 in percent; NaN without a trial that finished.
      spread: its sample standard deviation; NaN of one seed.
      n: trials that finished.
      failed: trials that did not.
      best: whether it is the highest mean of its point.
      level: whether it is not significantly below that.
    """

    mean: float
    spread: float
    n: int
    failed: int
    best: bool = False
    level: bool = False

    @property
    def text(self) -> str:
        """Returns "85.2 ± 0.4"."""
        if math.isnan(self.mean):
            return "failed" if self.failed else formats.DASH
        return f"{self.mean:.1f}" + ("" if math.isnan(self.spread) else f" ± {self.spread:.1f}")


class Row(NamedTuple):
    """A method at all points of a comparison."""

    method: str
    control: bool
    replays: bool
    cells: list[Cell]

    @property
    def mean(self) -> float:
        """Returns the mean over points, NaN if one is missing."""
        return sum(cell.mean for cell in self.cells) / len(self.cells)


def rows(comparison: Comparison) -> list[Row]:
    """Returns the rows of a comparison: methods, then controls, each the best first."""
    cells = {
        (row["method"], row["point"]): _cell(comparison, row)
        for _, row in comparison.curves.iterrows()
    }
    replays = set(comparison.curves.loc[comparison.curves["replays"].notna(), "method"])
    none = Cell(math.nan, math.nan, 0, 0)
    return [
        Row(
            name,
            name in comparison.controls,
            name in replays,
            [cells.get((name, point), none) for point in comparison.points],
        )
        for name in [*comparison.methods, *comparison.controls]
    ]


def _cell(comparison: Comparison, row: pd.Series) -> Cell:
    best = comparison.best.get(row["point"])
    mean, spread = (number(row[f"pruned_top1_{end}"]) for end in ("mean", "std"))
    return Cell(
        math.nan if mean is None else 100 * mean,
        math.nan if spread is None else 100 * spread,
        int(row["n"]),
        int(row["failed"]),
        best is not None and best.method == row["method"],
        best is not None and row["method"] in (best.level or ()),
    )


def dense_cell(comparison: Comparison) -> Cell | None:
    """Returns the dense control's accuracy."""
    return None if comparison.dense is None else _cell(comparison, comparison.dense)


def spread_known(comparison: Comparison) -> bool:
    """Returns whether any method has more than one seed at a point."""
    return bool((comparison.curves["n"] > 1).any())


def heads(comparison: Comparison) -> list[str]:
    """Returns how its points are called: "8 ×"."""
    return [f"{point:g} ×" for point in comparison.points]


def console(comparison: Comparison) -> str:
    """Returns the table of a comparison as text; * marks the best, = those level with it."""
    import pandas as pd

    body = {
        formats.elide(formats.plain(row.method), 30): [_marked(cell) for cell in row.cells]
        for row in rows(comparison)
    }
    dense = dense_cell(comparison)
    title = f"{comparison.name}: top-1, % by {comparison.counts}"
    if dense is not None:
        title += f"; dense {dense.text}"
    table = pd.DataFrame.from_dict(body, orient="index", columns=heads(comparison))
    return f"{title}\n{table.to_string()}"


def _marked(cell: Cell) -> str:
    return cell.text + ("*" if cell.best else "=" if cell.level else " ")


def latex(comparison: Comparison) -> str:
    """Returns the table of a comparison for LaTeX with booktabs, the best of a point in bold."""
    lines = [[_escaped(row.method), *map(_latex_cell, row.cells)] for row in rows(comparison)]
    dense = dense_cell(comparison)
    if dense is not None:
        lines.insert(0, [DENSE, _latex_cell(dense), *[""] * (len(comparison.points) - 1)])
    names = [f"${point:g}\\times$" for point in comparison.points]
    caption = f"{_escaped(comparison.pair)}: top-1 in \\% by {comparison.counts}"
    return _tabular(caption, ["method", *names], lines)


def _latex_cell(cell: Cell) -> str:
    if math.isnan(cell.mean):
        return "failed" if cell.failed else "--"
    mean = f"\\mathbf{{{cell.mean:.1f}}}" if cell.best else f"{cell.mean:.1f}"
    return f"${mean}$" if math.isnan(cell.spread) else f"${mean} \\pm {cell.spread:.1f}$"


def latex_ranks(ranks: pd.DataFrame) -> str:
    """Returns the table of `tfprune.evaluation.summary.ranks` for LaTeX with booktabs."""
    lines = [
        [
            _escaped(row.Index),
            f"{row.mean_rank:.2f}",
            f"{row.wins:.0f}",
            f"{100 * row.mean_top1:.1f}",
        ]
        for row in ranks.itertuples()
    ]
    caption = f"Mean ranks by top-1 over {ranks.attrs['blocks']} blocks"
    critical = ranks.attrs["critical_difference"]
    if critical is not None:
        caption += f"; critical difference {critical:.2f}"
    return _tabular(caption, ["method", "mean rank", "wins", "mean top-1, \\%"], lines)


def _tabular(caption: str, head: list[str], lines: list[list[str]]) -> str:
    body = "\n".join(" & ".join(line) + r" \\" for line in lines)
    return rf"""% needs \usepackage{{booktabs}}
\begin{{table}}
\centering
\caption{{{caption}}}
\begin{{tabular}}{{l{"r" * (len(head) - 1)}}}
\toprule
{" & ".join(head)} \\
\midrule
{body}
\bottomrule
\end{{tabular}}
\end{{table}}
"""


def _escaped(text: object) -> str:
    return formats.plain(text).translate(_LATEX)


def measured(comparison: Comparison) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Returns head and rows of all that was measured: a method at a point, and its figures.

    Columns that are empty are left out.
    """
    curves = comparison.curves
    columns = {
        "Top-1": ("pruned_top1", _percent),
        "Top-5": ("pruned_top5", _percent),
        "Top-1, validation": ("pruned_val_top1", _percent),
        "Before fine-tuning": ("untuned_top1", _percent),
        "Compression": ("compression_ratio", _times),
        "Speed-up": ("theoretical_speedup", _times),
        "Zeros": ("sparsity", _percent),
        "Entropy": ("entropy_bytes", formats.size),
    }
    for column in curves:
        for ending, (what, show) in _OF_FILES.items():
            if column.endswith(f"{ending}_mean"):
                variant = formats.elide(formats.plain(column.removesuffix(f"{ending}_mean")), 24)
                columns[f"{variant}: {what}"] = (column.removesuffix("_mean"), show)
    known = {
        head: how
        for head, how in columns.items()
        if f"{how[0]}_mean" in curves and curves[f"{how[0]}_mean"].notna().any()
    }
    parts = [] if comparison.dense is None else [comparison.dense]
    order = [*comparison.methods, *comparison.controls]
    by_method = curves.assign(_place=curves["method"].map(order.index))
    parts += [row for _, row in by_method.sort_values(["_place", "point"]).iterrows()]
    lines = [
        [f"{row['point']:g} ×", f"{int(row['n'])}", f"{int(row['failed'])}"]
        + [_with_spread(row, key, show) for key, show in known.values()]
        for row in parts
    ]
    names = [str(row["method"]) for row in parts]
    return ["Point", "Seeds", "Failed", *known], list(zip(names, lines, strict=True))


def _percent(value: float) -> str:
    return formats.percent(value, digits=1)


def _times(value: float) -> str:
    return formats.ratio(value, digits=2)


def _share(value: float) -> str:
    return formats.DASH if number(value) is None else f"{value:.2f}"


def _milliseconds(value: float) -> str:
    return formats.milliseconds(value, unit=" ms")


_OF_FILES = {
    "_gzip_bytes": ("gzip", formats.size),
    "_latency_ms_median": ("latency", _milliseconds),
    "_latency_ratio": ("latency to dense", _share),
}


def _with_spread(row: pd.Series, key: str, show: object) -> str:
    mean, spread = row.get(f"{key}_mean"), number(row.get(f"{key}_std"))
    text = show(mean)
    if spread is None or not key.endswith("top1"):
        return text
    return f"{text} ± {100 * spread:.1f}"


def write(
    comparisons: list[tuple[str, Comparison, pd.DataFrame]],
    ranks: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    folder: Path,
) -> None:
    """Writes CSV and LaTeX files.

    Args:
      comparisons: name of its files, comparison, and what is kept of layers.
      ranks: by axis.
      table: all trials.
      folder: where to.
    """
    import pandas as pd

    from tfprune.report.whole import whole

    def write_csv(name: str, what: pd.DataFrame, *, index: bool) -> None:
        with whole(folder / f"{name}.csv") as path:
            what.to_csv(path, index=index)

    def write_latex(name: str, text: str) -> None:
        with whole(folder / f"{name}.tex") as path:
            path.write_text(text, encoding="utf-8")

    write_csv("trials", table.drop(columns=["layers", "channels", "traceback"]), index=False)
    for name, comparison, kept in comparisons:
        dense = [] if comparison.dense is None else [comparison.dense.to_frame().T]
        write_csv(name, pd.concat([*dense, comparison.curves]), index=False)
        write_latex(name, latex(comparison))
        if len(kept):
            write_csv(f"{name}-layers", kept, index=True)
    for axis, found in ranks.items():
        write_csv(f"ranks-{axis}", found, index=True)
        write_latex(f"ranks-{axis}", latex_ranks(found))
