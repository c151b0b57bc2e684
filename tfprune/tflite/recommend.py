"""Which of the exported files to ship."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_ACCURACY = {"top1": "top-1", "top1_agreement": "agreement with Keras"}


def recommend(table: pd.DataFrame, *, max_drop: float = 0.01) -> tuple[pd.Series, str]:
    """Returns the row of the file to ship, and the reason in words.

    The rule: of the files that loaded and agree with Keras, drop those whose top-1 is more than
    `max_drop` below float32's; of the rest take the one with the least latency x gzip size, so
    that half the time makes up for twice the bytes; of equals the first, which is the plainer.
    Without float32 the most accurate file stands in for it. Without labels the agreement with
    Keras' own top-1 takes the place of top-1; without classes accuracy is left aside.

    Args:
      table: from `export`.
      max_drop: fraction of examples: 0.01 is one percentage point.

    Raises:
      ValueError: if no file is ok, with the reasons.
    """
    ok = table[table["status"] == "ok"]
    if ok.empty:
        why = "; ".join(f"{row.variant}: {row.reason}" for row in table.itertuples())
        raise ValueError(f"there is no file to recommend ({why})")
    plain = ok[ok["variant"] == "float32"]
    measure = next((name for name in _ACCURACY if ok[name].notna().all()), None)
    if measure:
        # A rounding error in the subtraction must not drop a file that loses exactly max_drop.
        least = (plain if len(plain) else ok)[measure].max() - max_drop - 1e-9
        accurate = ok[ok[measure] >= least]
    else:
        accurate = ok
    cost = accurate["latency_ms_median"] * accurate["gzip_bytes"].astype(float)
    reason = "the least latency x gzip size of the files"
    if measure:
        best = "float32's" if len(plain) else "the best"
        allowed = f"within {100 * max_drop:g} %-points of {best}"
        reason += f" whose {_ACCURACY[measure]} is {allowed}"
    return accurate.loc[cost.idxmin()], reason
