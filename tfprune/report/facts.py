"""What a record says about the file to ship, and how it compares with the dense model's files."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import is_valid_linkage

from tfprune.report import formats
from tfprune.report.formats import number

# What tells a file, and what samples tell of it.
_FILE = ("model", "variant")
_JUDGED = ("top1", "top5", "top1_agreement", "max_abs_error", "mean_abs_error", "samples")
# Below, no type of weights is smaller without its zeros.
_MANY_ZEROS = 0.2

Record = Mapping[str, object]
Row = Mapping[str, object]


def rows(record: Record, key: str) -> list[Row]:
    """Returns the list of objects under `key`, empty if the run didn't get that far."""
    return [row for row in record.get(key) or [] if isinstance(row, Mapping)]


class Filters(NamedTuple):
    """A layer's filters as `tfprune.measurement.redundancy.filters` finds them."""

    layer: str
    kept: list[bool]
    points: list[list[float]]
    explained: float
    nearest: list[int]
    tree: list[list[float]]


def filters(record: Record) -> Filters | None:
    """Returns the filters that the record has, None if it has none that can be drawn."""
    try:
        found = Filters(**record.get("filters") or {})
        count = len(found.kept)
        points, tree = np.array(found.points, float), np.array(found.tree, float)
        nearest = np.array(found.nearest)
        drawable = (
            points.shape == (count, 2)
            and np.isfinite(points).all()
            and nearest.shape == (count,)
            and np.isin(nearest, np.arange(count)).all()
            and (count == 1 or (tree.shape == (count - 1, 4) and is_valid_linkage(tree)))
        )
        return found if drawable and number(found.explained) is not None else None
    except (TypeError, ValueError):
        return None


def files(record: Record) -> list[Row]:
    """Returns the rows of the exported files on one device, those of the dense model first.

    It is the device whose latency decided which file is recommended, else the first. Accuracy and
    errors are those of the device that ran the most samples.
    """
    found, device = everywhere(record), _device(record)
    return [_judged(row, found) for row in found if row.get("device") == device]


def _device(record: Record) -> object:
    found, chosen = everywhere(record), record.get("recommended")
    device = chosen.get("device") if isinstance(chosen, Mapping) else None
    return device or (found[0].get("device") if found else None)


def _judged(row: Row, rows: list[Row]) -> Row:
    """Returns a row with the accuracy of whichever row of the same file has the most samples."""

    def samples(other: Row) -> float:
        return number(other.get("samples")) or 0

    same = [x for x in rows if is_ok(x) and all(x.get(k) == row.get(k) for k in _FILE)]
    most = max(same, key=samples, default=row)
    if not is_ok(row) or samples(most) <= samples(row):
        return row
    return {**row, **{key: most.get(key) for key in _JUDGED}}


def everywhere(record: Record) -> list[Row]:
    """Returns the rows of the exported files on all devices, those of the dense model first."""
    return sorted(rows(record, "tflite"), key=lambda row: row.get("model") != "baseline")


def elsewhere(record: Record) -> list[Row]:
    """Returns the rows of the devices other than the one that `files` is about."""
    return [row for row in everywhere(record) if row.get("device") != _device(record)]


def operators(record: Record) -> list[Row]:
    """Returns the times of the operators of the recommended file, on the devices that tell them."""
    row = shipped(record) or {}
    return [op for op in rows(record, "ops") if op.get("variant") == row.get("variant")]


class SparseInference(NamedTuple):
    """Whether XNNPACK skips zeros on a target.

    Attributes:
      target: a kind of processor.
      state: "on" or "off".
      variants: of which files this is so.
      reason: why, of the first of them.
    """

    target: str
    state: str
    variants: list[str]
    reason: str


def sparse_inference(record: Record) -> list[SparseInference]:
    """Returns on which targets zeros are skipped in which files, and why or why not."""
    found: dict[tuple[str, str], SparseInference] = {}
    for row in rows(record, "sparse_inference"):
        target, reason, variant = (
            formats.plain(row.get(key)) for key in ("target", "reason", "variant")
        )
        state = "on" if row.get("engaged") else "off"
        said = found.setdefault((target, state), SparseInference(target, state, [], reason))
        said.variants.append(variant)
    return list(found.values())


def kept_dense(record: Record) -> list[Row]:
    """Returns the kernels with many zeros that sparse files store with them, and why."""
    return [
        row
        for row in rows(record, "storage")
        if "_sparse" in formats.setting(row.get("variant"))
        and row.get("sparse") is False
        and (number(row.get("sparsity")) or 0) >= _MANY_ZEROS
    ]


def is_ok(row: Row) -> bool:
    """Returns whether the file loaded, agreed with Keras and was measured."""
    return row.get("status") == "ok"


def name(row: Row) -> str:
    """Returns what people call a file: "dense int8", "pruned int8", or "int8" of an export."""
    model = {"baseline": "dense ", "pruned": "pruned "}.get(row.get("model"), "")
    if row.get("variant") is None:
        return formats.setting(row.get("file"))
    return f"{model}{formats.setting(row['variant'])}"


def ratio(row: Row) -> str:
    """Returns "0.52 (±0.03)": the latency relative to the baseline's, and half its spread."""
    value, spread = (number(row.get(key)) for key in ("latency_ratio", "latency_ratio_iqr"))
    if value is None:
        return formats.DASH
    return f"{value:.2f}" + ("" if spread is None else f" (±{spread / 2:.2f})")


def title(record: Record) -> str:
    """Returns what was pruned: "resnet20 on cifar10"."""
    model = formats.setting(record.get("model") or record.get("flag_model"))
    dataset = formats.setting(record.get("dataset") or record.get("flag_dataset"))
    return " on ".join(part for part in (model, dataset) if part != formats.DASH) or "A model"


def shipped(record: Record) -> Row | None:
    """Returns the row of the recommended file, None without one."""
    chosen = record.get("recommended")
    if not isinstance(chosen, Mapping):
        return None
    same = [
        row for row in files(record) if is_ok(row) and row.get("variant") == chosen.get("variant")
    ]
    # Both models may have a file of the same name, in folders that the record needn't tell.
    same.sort(
        key=lambda row: (row.get("file") != chosen.get("file"), row.get("model") == "baseline")
    )
    return same[0] if same else None


def pareto(record: Record) -> str:
    """Returns which files no other one beats in all of bytes, latency and accuracy, or nothing."""
    chosen = record.get("recommended")
    found = chosen.get("pareto") if isinstance(chosen, Mapping) else None
    if not isinstance(found, list) or not found:
        return ""
    names = ", ".join(formats.plain(variant) for variant in found)
    return f"In bytes, latency and accuracy together no file beats: {names}."


def dense(record: Record, variant: str) -> Row | None:
    """Returns the row of the dense model's file of this variant, None if there is no such file."""
    # Of a model that was only exported, its own files are what others are compared with.
    found = (r for r in files(record) if is_ok(r) and r.get("model") in ("baseline", None))
    return next((row for row in found if row.get("variant") == variant), None)


def smaller(row: Row, other: Row, key: str = "gzip_bytes") -> str:
    """Returns "5.1 × smaller", "1.2 × larger", "the same size", or nothing if unknown."""
    return _change(row.get(key), other.get(key), "smaller", "larger", same="the same size")


def faster(row: Row, other: Row) -> str:
    """Returns "1.9 × faster", "1.2 × slower", "as fast", or nothing if unknown.

    A difference within the spread of either timing (interquartile range) is none.
    """
    here, there = row.get("latency_ms_median"), other.get("latency_ms_median")
    spread = max(number(r.get("latency_ms_iqr")) or 0.0 for r in (row, other))
    return _change(here, there, "faster", "slower", same="as fast", spread=spread)


def gained(row: Row, other: Row, key: str = "top1") -> str:
    """Returns the difference in accuracy, "−0.3 points", or nothing if unknown."""
    change = formats.points(row.get(key), other.get(key), digits=1)
    return "" if change == formats.DASH else f"{change} points"


def headline(record: Record) -> str:
    """Returns in a sentence how small, how fast and how accurate the recommended file is."""
    row, reference = shipped(record), dense(record, "float32")
    if row is None:
        return _without_file(record)
    parts = []
    if number(row.get("gzip_bytes")) is not None:
        parts.append(f"{formats.size(row['gzip_bytes'])} gzip")
    if reference and reference != row:
        against = smaller(row, reference)
        word = "as" if against.startswith("the") else "than"
        parts.append(against and f"{against} {word} the {name(reference)} file")
        parts.append(faster(row, reference))
    if number(row.get("top1")) is not None:
        change = gained(row, reference or {"top1": record.get("base_top1")})
        accuracy = f"{formats.percent(row['top1'], digits=1)} top-1"
        parts.append(f"{accuracy} ({change})" if change and reference != row else accuracy)
    said = ", ".join(part for part in parts if part)
    return f"{name(row)}: {said}." if said else f"{name(row)}."


def against_int8(record: Record) -> str:
    """Returns how the recommended file compares with the dense model's int8 file, or nothing.

    Quantising alone makes a file four times smaller: a sparse file has to be seen beside it.
    """
    row, reference = shipped(record), dense(record, "int8")
    if row is None or reference is None or row == reference:
        return ""
    parts = [smaller(row, reference), faster(row, reference), gained(row, reference)]
    said = ", ".join(part for part in parts if part)
    return f"Against the {name(reference)} file: {said}." if said else ""


def _without_file(record: Record) -> str:
    tried = files(record)
    chosen = record.get("recommended")
    why = chosen.get("reason") if isinstance(chosen, Mapping) else None
    if any(is_ok(row) for row in tried):
        text = f"No file is recommended: {formats.plain(why)}" if why else "No file is recommended"
    elif tried:
        text = "No file works: see the reasons below"
    else:
        text = "No .tflite file was made"
    top1 = record.get("pruned_top1")
    if number(top1) is not None:
        text += f". The pruned Keras model: {formats.percent(top1, digits=1)} top-1"
        change = gained({"top1": top1}, {"top1": record.get("base_top1")})
        text += f" ({change})" if change else ""
    return text + "."


def _change(
    value: object, reference: object, less: str, more: str, *, same: str, spread: float = 0.0
) -> str:
    """Returns by which factor `value` is below or above `reference`, in these words."""
    value, reference = number(value), number(reference)
    if value is None or reference is None or value <= 0 or reference <= 0:
        return ""
    factor = max(value, reference) / min(value, reference)
    # What would be printed as "1.0 ×" is no difference.
    if factor < 1.05 or abs(value - reference) <= spread:
        return same
    return f"{formats.ratio(factor)} {less if value < reference else more}"
