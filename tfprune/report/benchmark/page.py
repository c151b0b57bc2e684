"""A benchmark as one HTML page: no network, and every text in it is untrusted.

Its one script is inline and known by its hash, so that the browser runs no other. Without it the
page has all it has to say, only tables can't be sorted and points don't answer.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tfprune.evaluation import checklist
from tfprune.evaluation.methods import DENSE
from tfprune.report import formats, html, svg
from tfprune.report.benchmark import allocation, curves, diagram, series, tables
from tfprune.report.benchmark import comparison as comparing
from tfprune.report.benchmark.comparison import Comparison
from tfprune.report.benchmark.settings import settings

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup
    from matplotlib.figure import Figure

_SCRIPT = Path(__file__).with_name("script.js")
_SWATCH = (30, 12)


class Key(NamedTuple):
    """An entry of a legend."""

    method: str
    swatch: Markup


class Section(NamedTuple):
    """What the page has of a comparison; pictures are <svg> elements."""

    comparison: Comparison
    point: float
    legend: list[Key]
    panels: list[Markup]
    small: list[tuple[str, Markup]]
    replays: bool
    published: list[series.Published]
    rows: list[tables.Row]
    dense: tables.Cell | None
    spread: bool
    heads: list[str]
    measured: tuple[list[str], list[tuple[str, list[str]]]]
    heat_map: Markup | None
    kept: pd.DataFrame
    layers: list[str]


def render(
    table: pd.DataFrame,
    comparisons: Sequence[Comparison],
    ranks: dict[str, pd.DataFrame],
    published: pd.DataFrame | None,
) -> str:
    """Returns the page; of the same records, always the same text.

    Args:
      table: as `tfprune.evaluation.records.load` has it.
      comparisons: those in it.
      ranks: by axis, of `tfprune.evaluation.summary.ranks`.
      published: as `tfprune.literature.load` has it; None leaves it out.
    """
    from markupsafe import Markup

    script = _SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    verdicts = [said for said in map(comparing.verdict, comparisons) if said]
    of_all = next(iter(ranks.values())) if len(ranks) == 1 else None
    items = checklist.check(table)
    failed = table[table["status"].ne("ok")]
    template = html.environment().get_template("benchmark/page.html")
    return template.render(
        script=Markup(script),  # noqa: S704, it is our own file
        script_hash=Markup(f"'sha256-{digest}'"),  # noqa: S704, letters and digits
        headline=comparing.headline(verdicts, of_all),
        title=_title(table),
        trials=len(table),
        seeds=table["seed"].nunique(),
        verdicts=verdicts,
        sections=sections(table, comparisons, published),
        ranks=[
            (axis, found, Markup(diagram.picture(found)))  # noqa: S704
            for axis, found in ranks.items()
            if len(found) > 1
        ],
        failed=failed.to_dict("records"),
        skipped=table.attrs.get("skipped", []),
        items=items,
        told=[item for item in items if item.met is not None],
        settings=settings(table),
        top1=comparing.TOP1,
        axes=comparing.AXES,
        tolerated=100 * comparing.TOLERATED,
        axes_used=sorted({x.counts for x in comparisons}),
        lines=_lines,
        series=series,
    )


def _title(table: pd.DataFrame) -> str:
    pruned = table[table["method"].ne(DENSE)]
    tested = pruned[~pruned["control"].astype(bool)]
    parts = [
        _some((tested if len(tested) else pruned)["method"].nunique(), "method"),
        _some(table["pair"].nunique(), "pair"),
    ]
    return " on ".join(parts)


def _lines(traceback: object) -> Markup:
    """Returns a traceback with its lines, each as `formats.plain` makes it but for its indent."""
    from markupsafe import escape

    if not isinstance(traceback, str):
        return escape(formats.DASH)
    return escape("\n").join(
        " " * (len(line) - len(line.lstrip())) + formats.plain(line)
        for line in traceback.splitlines()
    )


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def sections(
    table: pd.DataFrame, comparisons: Sequence[Comparison], published: pd.DataFrame | None
) -> list[Section]:
    """Returns what the page has of each comparison."""
    from markupsafe import Markup

    colours = series.coloured(comparisons)
    found = []
    for compared in comparisons:
        point = comparing.chosen_point(compared)
        kept = allocation.kept(table, compared, point)
        reported = series.published_points(compared, published)
        panels = [
            curves.overview(compared, panel, colours, reported) for panel in series.panels(compared)
        ]
        replays = bool(compared.curves["replays"].notna().any())
        # Where all have a colour and nothing to be held against, they are seen well together.
        alone = replays or len(compared.methods) > len(svg.SERIES)
        small = curves.one_by_one(compared) if alone else []
        heat_map = Markup(allocation.picture(compared, kept, point)) if len(kept) else None  # noqa: S704
        found.append(
            Section(
                compared,
                point,
                _legend(compared, colours) if panels else [],
                # matplotlib writes XML, in which the text of records is escaped.
                [Markup(panel) for panel in panels],  # noqa: S704
                [(name, Markup(panel)) for name, panel in small],  # noqa: S704
                replays,
                reported,
                tables.rows(compared),
                tables.dense_cell(compared),
                tables.spread_known(compared),
                tables.heads(compared),
                tables.measured(compared),
                heat_map,
                kept,
                allocation.short(list(kept.columns)),
            )
        )
    return found


def _legend(compared: Comparison, colours: dict[str, int]) -> list[Key]:
    """Returns an entry for each method, and for each control that is not replayed for one."""
    from markupsafe import Markup

    replays = set(compared.curves.loc[compared.curves["replays"].notna(), "method"])
    controls = [name for name in compared.controls if name not in replays]
    return [
        Key(name, Markup(_swatch(compared, name, colours.get(name))))  # noqa: S704
        for name in [*compared.methods, *controls]
    ]


def _swatch(compared: Comparison, name: str, place: int | None) -> str:
    width, height = _SWATCH
    control = name in compared.controls

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(-1, 1))
        line = {"linestyle": series.dashes(name) if control else "-"}
        if place is None:
            axes.plot([0, 1], [0, 0], color=svg.INK, alpha=0.8 if control else 0.35, **line)
        else:
            axes.plot([0, 1], [0, 0], color=svg.SERIES[place], linewidth=1.8)
            axes.plot(0.5, 0, marker=series.SHAPES[place], color=svg.SERIES[place], markersize=6)

    alt = f"Line of {formats.plain(name)}, {compared.name} by {compared.counts}"
    return svg.element(draw, height, alt, width=width)
