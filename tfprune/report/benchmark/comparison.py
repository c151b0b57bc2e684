"""What a benchmark compares: methods on one pair along one axis, and what can be said of them.

One operating point stands for a comparison where one figure must do: the largest at which some
method is within two points of the dense model. Further on all have lost what makes a model useful,
before it hardly any has lost anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tfprune.evaluation.methods import DENSE
from tfprune.report import formats
from tfprune.report.formats import number

if TYPE_CHECKING:
    import pandas as pd

TOLERATED = 0.02
TOP1 = "pruned_top1_mean"
# What an operating point counts, and the column that has it as it was reached.
AXES = {
    "compression": ("compression", "compression_ratio"),
    "macs": ("theoretical speed-up", "theoretical_speedup"),
}


class Best(NamedTuple):
    """The method of most accuracy at a point, and which others may be as good.

    Attributes:
      method: of the highest mean.
      level: those of several seeds that are not significantly below it; None if it has one seed.
    """

    method: str
    level: list[str] | None


class Comparison(NamedTuple):
    """Methods on one pair of data set and model, along one axis.

    Attributes:
      pair: as shown, "resnet8 on cifar10".
      dataset: its name.
      model: its name.
      axis: "compression" or "macs".
      curves: a row a method and point, of `tfprune.evaluation.summary.curves`, without dense.
      dense: the row of the dense control, None if there is none.
      methods: names of those under test, the best of all comparisons first.
      controls: names of those that the protocol added.
      best: at each point.
    """

    pair: str
    dataset: str
    model: str
    axis: str
    curves: pd.DataFrame
    dense: pd.Series | None
    methods: list[str]
    controls: list[str]
    best: dict[float, Best]

    @property
    def name(self) -> str:
        """Returns the pair as it is shown: on one line."""
        return formats.plain(self.pair)

    @property
    def points(self) -> list[float]:
        """Returns the operating points of the pruned models, in order."""
        return sorted(self.curves["point"].unique())

    @property
    def counts(self) -> str:
        """Returns what its operating points count."""
        return AXES.get(self.axis, AXES["compression"])[0]

    @property
    def reached(self) -> str:
        """Returns the metric that says what was reached of what its points ask for."""
        return AXES.get(self.axis, AXES["compression"])[1]

    def at(self, point: float) -> pd.DataFrame:
        """Returns the rows of a point by method, the most accurate first, without failed ones."""
        rows = self.curves[self.curves["point"].eq(point) & self.curves[TOP1].notna()]
        return rows.sort_values(TOP1, ascending=False, kind="stable").set_index("method")

    @property
    def dense_top1(self) -> float | None:
        """Returns the mean accuracy of the dense control."""
        return None if self.dense is None else number(self.dense[TOP1])


def comparisons(curves: pd.DataFrame, best: pd.DataFrame) -> list[Comparison]:
    """Returns the comparisons in a benchmark, by pair and axis.

    Args:
      curves: of `tfprune.evaluation.summary.curves`.
      best: of `tfprune.evaluation.summary.best`.
    """
    order = ranking(curves)
    found = []
    for (pair, axis), rows in curves.groupby(["pair", "axis"], sort=True):
        is_dense = rows["method"].eq(DENSE)
        dense, pruned = rows[is_dense & rows[TOP1].notna()], rows[~is_dense]
        if pruned.empty:
            continue
        controls = set(pruned.loc[_is_control(pruned), "method"])
        names = sorted(pruned["method"].unique(), key=order.get)
        here = best[best["pair"].eq(pair) & best["axis"].eq(axis)]
        found.append(
            Comparison(
                pair=pair,
                dataset=rows["dataset"].iloc[0],
                model=rows["model"].iloc[0],
                axis=axis,
                curves=pruned,
                dense=None if dense.empty else dense.iloc[0],
                methods=[name for name in names if name not in controls],
                controls=[name for name in names if name in controls],
                best={row.point: Best(row.method, row.level) for row in here.itertuples()},
            )
        )
    return found


def ranking(curves: pd.DataFrame) -> dict[str, int]:
    """Returns the place of each method by its mean rank over pairs, axes and points.

    Unlike `tfprune.evaluation.summary.ranks` it places those that ran in some of them only.
    """
    pruned = curves[curves["method"].ne(DENSE)]
    # One without any accuracy comes last.
    ranks = pruned.groupby(["pair", "axis", "point"])[TOP1].rank(ascending=False)
    means = ranks.groupby(pruned["method"]).mean().sort_values(kind="stable", na_position="last")
    return {name: place for place, name in enumerate(means.index)}


def _is_control(rows: pd.DataFrame) -> pd.Series:
    return rows["control"].eq(True)


def chosen_point(comparison: Comparison) -> float:
    """Returns the operating point that stands for the comparison."""
    dense, points = comparison.dense_top1, comparison.points
    tops = comparison.curves.groupby("point")[TOP1].max().dropna()
    if tops.empty:
        return points[0]
    if dense is None:
        return tops.index[len(tops) // 2]
    within = tops[tops >= dense - TOLERATED]
    return within.index[-1] if len(within) else tops.index[0]


class Difference(NamedTuple):
    """How far the method of most accuracy is above a control.

    Attributes:
      name: of the control.
      lead: in percentage points.
      beyond: whether that is significant; None if one seed says nothing of it.
    """

    name: str
    lead: str
    beyond: bool | None


class Verdict(NamedTuple):
    """What stands at the top of the page about a comparison.

    Attributes:
      comparison: which.
      point: the operating point.
      row: of the method of most accuracy among those under test, of all if all are controls.
      change: against the dense control, in percentage points.
      controls: the others that the protocol added, replays not among them.
    """

    comparison: Comparison
    point: float
    row: pd.Series
    change: str
    controls: list[Difference]


def verdict(comparison: Comparison) -> Verdict | None:
    """Returns what to say of a comparison; None if nothing in it finished."""
    point = chosen_point(comparison)
    rows = comparison.at(point)
    if rows.empty:
        return None
    tested = rows[~_is_control(rows)]
    row = (tested if len(tested) else rows).iloc[0]
    best = comparison.best.get(point)
    others = rows[_is_control(rows) & rows["replays"].isna() & (rows.index != row.name)]
    return Verdict(
        comparison,
        point,
        row,
        formats.points(row[TOP1], comparison.dense_top1, digits=1),
        [
            Difference(
                name, formats.points(row[TOP1], other[TOP1], digits=1), _beyond(best, row, other)
            )
            for name, other in others.iterrows()
        ],
    )


def _beyond(best: Best | None, row: pd.Series, other: pd.Series) -> bool | None:
    """Returns whether the method's lead over a control is significant over seeds."""
    if best is None or best.level is None or best.method != row.name or other["n"] < 2:
        return None
    return other.name not in best.level


def headline(verdicts: list[Verdict], ranks: pd.DataFrame | None) -> str:
    """Returns in a sentence or two what the benchmark shows.

    Args:
      verdicts: of its comparisons.
      ranks: of `tfprune.evaluation.summary.ranks`, if all comparisons are along one axis.
    """
    if not verdicts:
        return "No pruned model finished, so there is nothing to compare."
    tested = ranks[~ranks["control"].astype(bool)] if ranks is not None else None
    if len(verdicts) == 1 or tested is None or tested.empty:
        return " ".join(f"{_sentence(said)}." for said in verdicts[:2])
    first = tested.iloc[0]
    leads = sum(said.row.name == first.name for said in verdicts)
    text = (
        f"{formats.plain(first.name)} keeps the most accuracy: mean rank {first['mean_rank']:.1f} "
        f"of {len(ranks)}, ahead on {leads} of {len(verdicts)} pairs."
    )
    return " ".join([text, *_against_controls(first, ranks)])


def _against_controls(first: pd.Series, ranks: pd.DataFrame) -> list[str]:
    """Returns a sentence on how far the best method's rank is from those of the controls."""
    critical = number(ranks.attrs["critical_difference"])
    controls = ranks.loc[ranks["control"].astype(bool), "mean_rank"]
    above = [formats.plain(name) for name in controls[controls < first["mean_rank"]].index]
    if above:
        return [f"Yet of the controls {' and '.join(above)} did better."]
    if critical is None or controls.empty:
        return []
    ahead = controls - first["mean_rank"] > critical
    beaten, level = (
        [formats.plain(x) for x in controls.index[ahead == is_]] for is_ in (True, False)
    )
    if not beaten:
        return [f"It is not significantly ahead of {' or '.join(level)}."]
    text = f"It is significantly ahead of {' and '.join(beaten)}"
    return [f"{text}, not of {' or '.join(level)}." if level else f"{text}."]


def _sentence(said: Verdict) -> str:
    name = formats.plain(said.row.name)
    text = (
        f"At {said.point:g} × {said.comparison.counts} {name} keeps {said.comparison.name} at "
        f"{formats.percent(said.row[TOP1], digits=1)}"
    )
    dense = said.comparison.dense_top1
    return text if dense is None else f"{text}, of {formats.percent(dense, digits=1)} dense"
