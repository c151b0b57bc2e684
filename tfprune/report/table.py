"""A record as text for the console: what was gained, file by file, and the file to ship."""

import textwrap
from collections.abc import Sequence

from tfprune.report import facts, formats

WIDTH = 100
_NAME = 27  # the longest that a name may be in a table


def text(record: facts.Record) -> str:
    """Returns the summary of `record`, no line longer than 100 columns."""
    parts = [facts.title(record), _model(record), _files(record), *_failures(record)]
    parts.append(devices(facts.elsewhere(record)))
    parts += [_sparse_inference(record), _recommended(record)]
    return "\n\n".join(part for part in parts if part)


def _model(record: facts.Record) -> str:
    """Returns a line for the dense Keras model and one for the pruned one."""
    gains = "pruned_nonzero_params" in record
    rows = [
        (
            name,
            formats.percent(record.get(f"{key}_top1")),
            formats.percent(record.get(f"{key}_top5")),
            formats.decimal(record.get(f"{key}_loss")),
            formats.count(record.get(f"{key}_nonzero_params")),
            formats.count(record.get(f"{key}_nonzero_macs")),
        )
        for name, key in (("dense" if gains else "model", "base"), ("pruned", "pruned"))
        if f"{key}_nonzero_params" in record
    ]
    head = ("Keras model", "top-1", "top-5", "loss", "non-zero params", "non-zero MACs")
    if not gains:
        return _columns(head, rows) if rows else ""
    gained = [
        f"compression {formats.ratio(record.get('compression_ratio'))}",
        f"theoretical speed-up {formats.ratio(record.get('theoretical_speedup'))}",
    ]
    if not facts.rows(record, "channels"):  # else what is gone is no zero but gone
        gained.insert(0, f"{formats.percent(record.get('sparsity'))} zeros")
    return f"{_columns(head, rows)}\n{', '.join(gained)}"


def _files(record: facts.Record) -> str:
    """Returns a line for each file that works."""
    works = [row for row in facts.files(record) if facts.is_ok(row)]
    reference = facts.dense(record, "float32") or {"top1": record.get("base_top1")}
    rows = [
        (
            facts.name(row),
            formats.size(row.get("bytes")),
            formats.size(row.get("gzip_bytes")),
            formats.milliseconds(row.get("latency_ms_median"), unit=" ms"),
            formats.milliseconds(row.get("latency_ms_iqr")),
            formats.size(row.get("peak_memory_bytes")),
            formats.percent(row.get("top1")),
            formats.points(row.get("top1"), reference.get("top1")),
        )
        for row in works
    ]
    head = ("TFLite file", "size", "gzip", "latency", "IQR", "memory", "top-1", "points")
    return _columns(head, rows) if rows else ""


def devices(rows: Sequence[facts.Row]) -> str:
    """Returns a line for each file and device: what it costs there, or why it doesn't run."""
    head = ("TFLite file", "device", "latency", "ratio", "sparse kernels", "agreement", "samples")
    lines = [
        (
            facts.name(row),
            formats.plain(row.get("device")) + (" (emulated)" if row.get("emulated") else ""),
            formats.milliseconds(row.get("latency_ms_median"), unit=" ms"),
            facts.ratio(row),
            formats.count(row.get("sparse_kernels")),
            formats.percent(row.get("top1_agreement")),
            formats.count(row.get("samples")),
        )
        for row in rows
        if facts.is_ok(row)
    ]
    failed = [
        _wrapped(
            f"{facts.name(row)} on {formats.plain(row.get('device'))} "
            f"{formats.plain(row.get('status'))}: {formats.plain(row.get('reason'))}"
        )
        for row in rows
        if not facts.is_ok(row)
    ]
    return "\n\n".join([_columns(head, lines), *failed] if lines else failed)


def _sparse_inference(record: facts.Record) -> str:
    """Returns in a line a target whether zeros are skipped there, and why or why not."""
    return "\n".join(
        _wrapped(
            f"Sparse inference on {said.target} is {said.state} for {', '.join(said.variants)}: "
            f"{said.reason}"
        )
        for said in facts.sparse_inference(record)
    )


def _failures(record: facts.Record) -> list[str]:
    """Returns why each of the other files is not there."""
    return [
        _wrapped(
            f"{facts.name(row)} {formats.plain(row.get('status'))}: "
            f"{formats.plain(row.get('reason'))}"
        )
        for row in facts.files(record)
        if not facts.is_ok(row)
    ]


def _recommended(record: facts.Record) -> str:
    chosen = record.get("recommended")
    said = [facts.headline(record), facts.against_int8(record)]
    if facts.shipped(record):
        file, reason = (formats.plain(chosen.get(key)) for key in ("file", "reason"))
        said.insert(0, f"Ship {file}, {reason}.\n")
        said.append(facts.pareto(record))
    return "\n".join(_wrapped(part) for part in said if part)


def _wrapped(line: str) -> str:
    return "\n".join(textwrap.wrap(line, WIDTH, subsequent_indent="  "))


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns an aligned table: the first column to the left, figures to the right."""
    table = [head, *((formats.elide(row[0], _NAME), *row[1:]) for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in table
    )
