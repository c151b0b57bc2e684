"""What a checklist is judged by: the trials of a table by what they stand for, and their names."""

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from tfprune.evaluation import methods

if TYPE_CHECKING:
    import pandas as pd

PLACE = ["pair", "axis"]
BLOCK = [*PLACE, "point"]


class Item(NamedTuple):
    """A recommendation, and whether it is followed.

    Attributes:
      recommendation: what is asked for.
      met: whether it is there; None if records can't tell.
      found: what is there.
      missing: what isn't, and how to get it; empty if it is met.
    """

    recommendation: str
    met: bool | None
    found: str
    missing: str = ""


class Evidence(NamedTuple):
    """Trials by what they stand for.

    Attributes:
      table: all, as `tfprune.evaluation.records.load` has them.
      ok: those that finished.
      dense: of these the dense network, only fine-tuned.
      pruned: of these the others.
      compared: of these the methods that are no mere controls; all if all are.
    """

    table: "pd.DataFrame"
    ok: "pd.DataFrame"
    dense: "pd.DataFrame"
    pruned: "pd.DataFrame"
    compared: "pd.DataFrame"

    @classmethod
    def of(cls, table: "pd.DataFrame") -> "Evidence":
        """Returns the trials of a table."""
        ok = table[table["status"].eq("ok")]
        is_dense = ok["method"].eq(methods.DENSE)
        pruned = ok[~is_dense & ok["point"].gt(1)]
        asked = table.loc[~table["control"].astype(bool), "method"].unique()
        compared = pruned[pruned["method"].isin(asked)]
        return cls(table, ok, ok[is_dense], pruned, pruned if compared.empty else compared)


def rows(table: "pd.DataFrame", columns: list[str]) -> set[tuple[Hashable, ...]]:
    """Returns the distinct rows of some columns."""
    return set(table[columns].itertuples(index=False, name=None))


def names(values: Iterable[object], most: int = 4) -> str:
    """Returns distinct names in order: "a, b, c, d and 3 more", or "none".

    Names are other people's: what could hide or reorder the text around it is escaped.
    """
    shown = list(dict.fromkeys(repr(str(value))[1:-1][:80] for value in values)) or ["none"]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def blocks(found: Iterable[tuple[str, str, float]], most: int = 3) -> str:
    """Returns where something is or isn't: "resnet8 on cifar10 at 8 and 3 more"."""
    return names((f"{pair} at {point:g}" for pair, _, point in sorted(found)), most)


def count(number: int, what: str) -> str:
    """Returns "1 seed" or "3 seeds"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
