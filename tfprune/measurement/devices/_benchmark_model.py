"""What TFLite's `benchmark_model` prints, as far as its versions agree.

Source: tflite/tools/benchmark in google-ai-edge/LiteRT, with tsl's StatWithPercentiles; the
CompiledModel tool of the same name (litert/tools) shares the code that measures. Versions differ in
the prefix of a line ("INFO: " or none), in whether percentiles are printed, and in the columns of
a profile.
"""

from __future__ import annotations

import re

_NUMBER = r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
_TIMES = re.compile(r"^(?:INFO: )?count=(\d+) (.*)$", re.MULTILINE)
_FIGURE = re.compile(rf"(\w+)={_NUMBER}")
_INIT = re.compile(rf"Initialized session in {_NUMBER} ?ms")
# The highest resident memory less that at the start of the tool (of getrusage).
_MEMORY = re.compile(rf"emory footprint .*overall={_NUMBER}|Overall footprint: +{_NUMBER} MB")
_NAMES = {
    "avg": "latency_ms_mean",
    "std": "latency_ms_std",
    "min": "latency_ms_min",
    "max": "latency_ms_max",
    "p5": "latency_ms_p5",
    "median": "latency_ms_median",
    "p95": "latency_ms_p95",
}
_MEGABYTE = 1 << 20


def figures(text: str) -> dict | None:
    """Returns `runs`, `init_ms`, `latency_ms_*` and `peak_memory_bytes` that `text` tells.

    Median and percentiles are absent if the version doesn't print them; all is None if the tool
    did not get to the end of its timing.
    """
    # The warm-up's line comes first.
    found = _TIMES.findall(text)[1:]
    if not found:
        return None
    count, rest = found[-1]
    stated = {name: float(value) for name, value in _FIGURE.findall(rest)}
    if "avg" not in stated:  # one run, or all took equally long
        same = dict.fromkeys(("avg", "min", "max", "median"), stated["curr"])
        stated = same | {"std": 0.0} | stated
    init, memory = _INIT.search(text), _MEMORY.search(text)
    megabytes = float(memory[1] or memory[2]) if memory else 0.0
    return {
        "runs": int(count),
        "init_ms": float(init[1]) if init else None,
        **{name: stated[short] / 1e3 for short, name in _NAMES.items() if short in stated},
        # Zero says that the tool could not tell.
        "peak_memory_bytes": round(megabytes * _MEGABYTE) or None,
    }


def ops(text: str) -> list[dict]:
    """Returns the profile as rows of `op`, `ms` of one inference, `share` of all, and `name`.

    A delegate's own table, where there is one, takes the place of the delegate's row.
    """
    _, _, regular = text.rpartition("Operator-wise Profiling Info")
    graph, _, inner = regular.partition("Delegate internal")
    rows, kernels = _table(graph), _table(inner)
    for row in kernels:
        row["op"] = row["name"].removeprefix("Delegate/").rpartition(":")[0]
    if kernels:
        rows = [row for row in rows if "Delegate" not in row["op"]] + kernels
    total = sum(row["ms"] for row in rows)
    # Shares are not always printed of the same whole.
    return [row | {"share": row["ms"] / total if total else 0.0} for row in rows]


def _table(text: str) -> list[dict]:
    """Returns the rows of the first table in the order of the run."""
    _, _, text = text.partition("Run Order")
    header, *lines = text.splitlines()[1:] or [""]
    columns = [cell.strip().strip("[]").lower() for cell in header.split("\t")]
    rows = []
    for line in lines:
        cells = dict(zip(columns, map(str.strip, line.split("\t")), strict=False))
        if len(cells) < len(columns):
            break
        # The average is that of a call. Early versions give 0 for one call.
        calls = max(1, int(cells["times called"]))
        ms = float(cells["avg ms"]) * calls
        rows.append({"op": cells["node type"], "ms": ms, "name": cells["name"]})
    return rows
