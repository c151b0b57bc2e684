"""Which of the exported files to ship."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfprune import registry

if TYPE_CHECKING:
    import pandas as pd

_ACCURACY = {"top1": "top-1", "top1_agreement": "agreement with Keras"}
_OPTIMIZE = {
    "latency": ("latency_ms_median", "lowest latency"),
    "bytes": ("bytes", "fewest bytes"),
    "accuracy": (None, "highest {}"),
}
OPTIMIZE = tuple(_OPTIMIZE)


class Recommendation(NamedTuple):
    """A choice among exported files.

    Attributes:
      row: of the file to ship.
      reason: in words.
      pareto: the rows of the files of which no other is at least as good in bytes, latency and
        accuracy, and better in one.
    """

    row: pd.Series
    reason: str
    pareto: pd.DataFrame


def recommend(
    table: pd.DataFrame,
    *,
    max_drop: float = 0.01,
    max_bytes: int | None = None,
    max_latency_ms: float | None = None,
    min_top1: float | None = None,
    optimize: str | None = None,
) -> Recommendation:
    """Returns the file to ship, the reason, and the Pareto set.

    The rule: of the files that loaded and agree with Keras on every device, drop those outside the
    limits given. Without `min_top1`, and unless accuracy is what counts, drop those as well whose
    top-1 is more than `max_drop` below float32's, or the best where there is no float32 file. Of
    the rest take the one with the least latency x gzip size, so that half the time makes up for
    twice the bytes; of equals the first, which is the plainer. Or take what `optimize` says.
    Without labels the agreement with Keras' own top-1 takes the place of top-1; without classes
    accuracy is left aside.

    Latency is that of the first real device other than this machine, else this machine's, and an
    emulator's only where there is no other. Accuracy is that of the device with most samples.

    Args:
      table: from `export`.
      max_drop: fraction of examples: 0.01 is one percentage point.
      max_bytes: of the file as it is.
      max_latency_ms: median of one inference.
      min_top1: as a fraction.
      optimize: "latency", "bytes" or "accuracy".

    Raises:
      ValueError: if no file is ok, with the reasons; if none is within the limits, with the
        nearest; for an unknown `optimize`.
    """
    if optimize is not None and optimize not in _OPTIMIZE:
        raise registry.unknown("optimize", optimize, _OPTIMIZE)
    ok = deciding(table)
    ok = ok[ok["status"] == "ok"]
    if ok.empty:
        why = "; ".join(f"{row.variant}: {row.reason}" for row in table.itertuples())
        raise ValueError(f"there is no file to recommend ({why})")
    measure = next((name for name in _ACCURACY if ok[name].notna().all()), None)
    unknown = measure != "top1" if min_top1 is not None else measure is None
    if unknown and (min_top1 is not None or optimize == "accuracy"):
        raise ValueError("accuracy is not known: pass evaluation= with labels")
    conditions = []
    chosen = ok
    for column, limit, sign, text in (
        ("bytes", max_bytes, 1, "at most {:,} bytes"),
        ("latency_ms_median", max_latency_ms, 1, "at most {:g} ms"),
        (measure, min_top1, -1, "a top-1 of at least {:g}"),
    ):
        if limit is None:
            continue
        conditions.append(text.format(limit))
        kept = chosen[sign * chosen[column].astype(float) <= sign * limit]
        if kept.empty:
            best = chosen.loc[(sign * chosen[column].astype(float)).idxmin()]
            raise ValueError(
                f"no file has {' and '.join(conditions)}: the nearest is {best['variant']} with "
                f"{best[column]:,.6g}"
            )
        chosen = kept
    if measure and min_top1 is None and optimize != "accuracy":
        plain = ok[ok["variant"] == "float32"]
        # A rounding error in the subtraction must not drop a file that loses exactly max_drop.
        least = (plain if len(plain) else ok)[measure].max() - max_drop - 1e-9
        best = "float32's" if len(plain) else "the best"
        conditions.append(f"{_ACCURACY[measure]} within {100 * max_drop:g} %-points of {best}")
        kept = chosen[chosen[measure] >= least]
        if kept.empty:
            raise ValueError(
                f"no file has {' and '.join(conditions)}: say what accuracy will do with min_top1"
            )
        chosen = kept
    if optimize is None:
        cost = chosen["latency_ms_median"] * chosen["gzip_bytes"].astype(float)
        reason = "the least latency x gzip size"
    else:
        chosen = pareto(chosen, measure)  # of those that are equal in one, the better in others
        column, reason = _OPTIMIZE[optimize]
        cost = chosen[column] if column else -chosen[measure]
        reason = "the " + reason.format(_ACCURACY.get(measure, ""))
    reason += " of the files" + (f" with {' and '.join(conditions)}" if conditions else "")
    where = ok["device"].iloc[0]
    if where != "local":
        reason += f", on {where}" + (", which is emulated" if ok["emulated"].iloc[0] else "")
    row = chosen.loc[cost.astype(float).idxmin()]
    return Recommendation(row, reason, pareto(ok, measure))


def deciding(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the device whose latency counts, with the accuracy of most samples."""
    answered = table[table["status"] != "away"].drop_duplicates("device")
    answered = answered if len(answered) else table.drop_duplicates("device")
    emulated = answered["emulated"].fillna(value=False).astype(bool)
    order = [
        answered[~emulated & (answered["device"] != "local")],
        answered[answered["device"] == "local"],
        answered,
    ]
    device = next(rows["device"].iloc[0] for rows in order if len(rows))
    most = table[table["status"] == "ok"].sort_values("samples", kind="stable")
    most = most.drop_duplicates("variant", keep="last").set_index("variant")
    rows = table[table["device"] == device]
    return rows.assign(**{name: rows["variant"].map(most[name]) for name in _ACCURACY})


def pareto(rows: pd.DataFrame, measure: str | None) -> pd.DataFrame:
    """Returns the rows that no other dominates in bytes, latency and, if known, accuracy."""
    costs = [rows["bytes"].astype(float), rows["latency_ms_median"]]
    if measure:
        costs.append(-rows[measure])
    points = np.stack(costs, axis=1)
    no_worse = (points[:, None] <= points).all(-1)
    better = (points[:, None] < points).any(-1)
    return rows[~(no_worse & better).any(0)]
