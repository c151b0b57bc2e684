"""What a table of records says: curves over seeds, ranks over comparisons, the best at a point."""

import math
from typing import TYPE_CHECKING

from tfprune.evaluation import methods, records

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LEVEL = 0.05
TOP1 = "pruned_top1_mean"
NOTE = (
    "Operating points of one network and data set are not independent, so that there is less "
    "evidence than the number of blocks suggests."
)
_METRICS = ("pruned_top1", "pruned_top5", "pruned_val_top1", "untuned_top1", "compression_ratio")
_METRICS += ("theoretical_speedup", "sparsity", "entropy_bytes")
_CURVE = ["pair", "dataset", "model", "axis", "method", "replays", "point"]
_BLOCK = ["pair", "axis", "point"]


def metrics(table: "pd.DataFrame") -> list[str]:
    """Returns the columns of a table of `records.load` that are results, those of files too."""
    variants = [x.removesuffix("_gzip_bytes") for x in table if x.endswith("_gzip_bytes")]
    files = (f"{variant}_{name}" for variant in variants for name in records.FILE_NUMBERS)
    numbers = table.select_dtypes("number")
    return [name for name in (*_METRICS, *files) if name in numbers]


def curves(table: "pd.DataFrame") -> "pd.DataFrame":
    """Returns mean and spread over seeds: one row a pair, axis, method and operating point.

    Args:
      table: as `records.load` has it.

    Returns:
      Columns pair, dataset, model, axis, method, replays, point; `control`, whether the protocol
      alone asked for it; `n` trials and how many `failed`; and of each of `metrics` its
      `<metric>_mean` and `<metric>_std`, the sample standard deviation (n - 1), unknown of one.
    """
    import pandas as pd

    ok = table["status"].eq("ok")
    named = metrics(table)
    counted = table[[*_CURVE, "control"]].assign(n=ok, failed=~ok)
    groups = counted.groupby(_CURVE, dropna=False)
    numbers = table[_CURVE].join(table[named].where(ok)).groupby(_CURVE, dropna=False)[named]
    parts = [groups.agg({"control": "all", "n": "sum", "failed": "sum"})]
    parts += [numbers.mean().add_suffix("_mean"), numbers.std().add_suffix("_std")]
    return pd.concat(parts, axis=1).reset_index()


def ranks(table: "pd.DataFrame") -> "pd.DataFrame":
    """Returns the mean rank of each method by accuracy, and which differences are significant.

    A block is a pair, axis and operating point with mean top-1 over seeds; rank 1 is the most
    accurate, ties share their mean. Methods are those that have a result in all blocks. Friedman's
    test says whether they differ at all; if they do, two of them differ if their mean ranks are
    further apart than Nemenyi's critical difference, q sqrt(k (k + 1) / (6 N)) with k methods, N
    blocks and q the quantile of the studentized range over sqrt(2) (Demsar 2006, "Statistical
    Comparisons of Classifiers over Multiple Data Sets", JMLR 7). Both take blocks as
    independent, which points of one pair are not: the differences are indications.

    Args:
      table: as `records.load` has it, of one axis, or those rows of it that are to be ranked.

    Returns:
      Index method, the best first; columns `mean_rank`, `wins` (blocks in which none is better),
      `mean_top1`, `control`. `attrs`: `blocks`, `left_out` ({method: blocks without a result}),
      `statistic` and `p_value` of Friedman's test, `critical_difference` at `level`, None with the
      `reason`, and a `note`.
    """
    import pandas as pd

    rows = _pruned(curves(table))
    tops = rows.pivot_table(index=_BLOCK, columns="method", values=TOP1)
    # A method all of whose trials failed is left out like any other.
    tops = tops[tops.count(axis=1) > 1].reindex(columns=sorted(rows["method"].unique()))
    missing = tops.isna().sum()
    # Sums in another order may differ in the last bit, which is no rank.
    whole = tops[missing.index[missing.eq(0)]].round(12)
    places = whole.rank(axis=1, ascending=False)
    found = pd.DataFrame(
        {
            "mean_rank": places.mean(),
            "wins": whole.eq(whole.max(axis=1), axis=0).sum(),
            "mean_top1": whole.mean(),
            "control": rows.groupby("method")["control"].all().reindex(whole.columns),
        }
    )
    found.index.name = "method"
    found = found.dropna(subset="mean_rank").sort_values("mean_rank", kind="stable")
    seeds = rows.loc[rows["method"].isin(whole.columns), "n"].min()
    found.attrs = {
        "blocks": len(whole),
        "left_out": missing[missing.gt(0)].to_dict(),
        "level": LEVEL,
        "note": NOTE,
        **_compared(whole, seeds),
    }
    return found


def _compared(tops: "pd.DataFrame", seeds: float) -> dict[str, object]:
    """Returns what tests say of methods (columns) in blocks (rows)."""
    from scipy import stats

    blocks, count = tops.shape
    told = {"statistic": None, "p_value": None, "critical_difference": None}
    if count < 3 or blocks < 2:
        what = f"results in each of {blocks} blocks: {count}"
        return told | {"reason": f"it takes three methods in two blocks; methods with {what}"}
    if seeds < 2:
        return told | {"reason": "some results are of one seed: it takes two or more of each"}
    if tops.nunique(axis=1).eq(1).all():
        return told | {"reason": "all methods have the same accuracy"}
    test = stats.friedmanchisquare(*tops.to_numpy().T)
    told |= {"statistic": float(test.statistic), "p_value": float(test.pvalue), "reason": None}
    if test.pvalue > LEVEL:
        said = f"Friedman's test finds no difference (p = {test.pvalue:.2g})"
        return told | {"reason": said}
    quantile = stats.studentized_range.ppf(1 - LEVEL, count, math.inf) / math.sqrt(2)
    distance = quantile * math.sqrt(count * (count + 1) / 6 / blocks)
    return told | {"critical_difference": float(distance)}


def best(table: "pd.DataFrame") -> "pd.DataFrame":
    """Returns the most accurate method at each point, and those that may be as good.

    Where methods have several seeds, one with a single seed is not the best. Replays tell what a
    method owes to its layers, and don't compete: the more are compared, the less is significant.
    A method is level with the best if the test of Games & Howell (1976), of all pairs over seeds,
    finds no difference. It lets methods scatter differently, as random and others do where accuracy
    collapses: means closer than q sqrt((s2_a / n_a + s2_b / n_b) / 2), with q the quantile of the
    studentized range at Welch's degrees of freedom.

    Args:
      table: as `records.load` has it.

    Returns:
      Columns pair, axis, point, `method`, and `level`: a list of the other methods, of which those
      with one seed are not; None where no method has more.
    """
    import pandas as pd

    ok = _pruned(table[table["status"].eq("ok") & table["replays"].isna()])
    rows = []
    for block, trials in ok.groupby(_BLOCK):
        tops = {method: x.to_numpy(float) for method, x in trials.groupby("method")["pruned_top1"]}
        # One seed may be the highest by luck, and says nothing of the others.
        tested = {method: values for method, values in tops.items() if len(values) > 1}
        first = max(tested or tops, key=lambda method: tops[method].mean())
        level = [x for x in tested if x != first and not _below(tops[x], tops[first], len(tested))]
        rows.append((*block, first, level if tested else None))
    return pd.DataFrame(rows, columns=[*_BLOCK, "method", "level"])


def _below(values: "np.ndarray", highest: "np.ndarray", count: int) -> bool:
    """Returns whether a mean is significantly below the highest of `count` methods."""
    from scipy import stats

    gap = highest.mean() - values.mean()
    errors = [x.var(ddof=1) / len(x) for x in (values, highest)]
    if not sum(errors):
        return gap > 1e-12  # sums in another order may differ in the last bit
    parts = zip(errors, (values, highest), strict=True)
    freedom = sum(errors) ** 2 / sum(error**2 / (len(x) - 1) for error, x in parts)
    units = gap / math.sqrt(sum(errors) / 2)
    return stats.studentized_range.sf(units, count, freedom) < LEVEL


def _pruned(rows: "pd.DataFrame") -> "pd.DataFrame":
    return rows[rows["method"].ne(methods.DENSE) & rows["point"].gt(1)]
