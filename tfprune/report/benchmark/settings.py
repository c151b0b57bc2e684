"""What all trials of a benchmark share, and where they differ, both values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tfprune.evaluation import records, summary
from tfprune.report import formats

if TYPE_CHECKING:
    import pandas as pd

_MOST = 6  # values that are listed
# What a trial is, not how it was run; each has a place of its own in the page.
_TRIAL = {
    *("run_id", "kind", "status", "error", "traceback", "pair", "dataset", "model", "method"),
    *("criterion", "allocation", "correction", "control", "replays", "axis", "point", "seed"),
    *("layers", "channels", "created", "command"),
}
_MEASURED = ("base_", "pruned_", "untuned_", "seconds_")


def settings(table: pd.DataFrame) -> dict[str, list[tuple[str, list[str]]]]:
    """Returns names and values of settings, and of the environment, one value if all share it."""
    files = {
        f"{column.removesuffix('_gzip_bytes')}_{name}"
        for column in table
        if column.endswith("_gzip_bytes")
        for name in (*records.FILE_NUMBERS, "status")
    }
    placed = _TRIAL | files | set(summary.metrics(table))
    lists: dict[str, list[tuple[str, list[str]]]] = {"Settings": [], "Environment": []}
    for column in sorted(table):
        if column in placed or column.startswith(_MEASURED):
            continue
        name = column.removeprefix("env_").removeprefix("flag_").replace("_", " ")
        values = _values(table, column)
        if values:
            title = "Environment" if column.startswith("env_") else "Settings"
            lists[title].append((formats.plain(name), values))
    return {title: pairs for title, pairs in lists.items() if pairs}


def _values(table: pd.DataFrame, column: str) -> list[str]:
    """Returns the values of a column, each with whose it is if there are several."""
    texts = table[column].map(_text)
    known = texts[texts.ne("")]
    counts = known.value_counts()
    if len(counts) < 2:
        return list(counts.index)
    by_pair = known.groupby(table["pair"]).agg(set)
    if by_pair.map(len).eq(1).all() and len(by_pair) <= _MOST:
        return [f"{formats.plain(pair)}: {min(values)}" for pair, values in by_pair.items()]
    values = [f"{text} ({n} trial{'' if n == 1 else 's'})" for text, n in counts.items()]
    rest = len(values) - _MOST
    return values[:_MOST] + ([f"and {rest} more values"] if rest > 0 else [])


def _text(value: object) -> str:
    """Returns a value as it is shown; of what is unknown, nothing."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            fields = json.loads(value)
        except ValueError:
            return formats.plain(value)
        return ", ".join(f"{formats.plain(k)} {formats.setting(v)}" for k, v in fields.items())
    text = formats.setting(value)
    return "" if text == formats.DASH else text
