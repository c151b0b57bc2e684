"""Records, the one format that everything measured ends in: written, read, and as a table.

docs/records.md says what is in one.
"""

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tfprune.evaluation.methods import Method

if TYPE_CHECKING:
    import keras
    import pandas as pd

SCHEMA = 1
AXES = ("compression", "macs")
Record = dict[str, object]

_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "tensorflow-model-optimization", "numpy")
# What the table has of a TFLite file, as <variant>_<name>.
FILE_NUMBERS = ("bytes", "gzip_bytes", "top1", "latency_ms_median", "latency_ms_iqr")
FILE_NUMBERS += ("latency_ratio", "latency_ratio_iqr")
# Where a benchmark keeps the records that could not be read.
_SET_ASIDE = "set_aside"


def fingerprint(model: "keras.Model") -> str:
    """Returns the SHA-256 of a model's weights, in order."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def environment() -> dict[str, str | int]:
    """Returns machine and package versions as `env_*`."""
    versions = {
        f"env_{name.replace('-', '_')}": importlib.metadata.version(name)
        for name in ("tfprune", *_PACKAGES)
    }
    return {
        "env_python": platform.python_version(),
        "env_platform": platform.platform(),
        "env_cpu": _cpu(),
        "env_cores": os.cpu_count(),
        **versions,
    }


def _cpu() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def write(record: Record, path: str | os.PathLike) -> None:
    """Writes a record, whole or not at all.

    Raises:
      ValueError: for a number that is not finite, with its field.
      OSError: if it can't be written; what was at `path` stays as it was.
    """
    _check_numbers(record)
    path = pathlib.Path(path)
    text = json.dumps(record, indent=1, allow_nan=False)
    # Not the process id: two machines may share the disk.
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: str | os.PathLike) -> Record:
    """Returns a record that is whole and has what its kind requires.

    Raises:
      ValueError: if it hasn't, with file and field.
      OSError: if it can't be read.
    """
    try:
        return _read(path)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def load(folder: str | os.PathLike) -> "pd.DataFrame":
    """Returns a table of all records below `folder`, one a row.

    Columns are the fields of docs/records.md that are no objects, those that a record has beyond
    them, `pair` ("resnet8 on cifar10"), `layers`, `channels` and `protected` as lists, `preprocess`
    as JSON, and of each TFLite file on the first device that is not emulated
    `<variant>_bytes`, `<variant>_latency_ratio` and so on. A record of `pipelines.prune` is a row
    too, its operating point being what it reached.

    `attrs["skipped"]` lists what else was found, as (path, reason).

    Raises:
      FileNotFoundError, NotADirectoryError: if there is no such folder.
      ValueError: if no record below it can be read.
    """
    import pandas as pd

    rows: list[Record] = []
    skipped: list[tuple[str, str]] = []
    known: dict[str, str] = {}
    for path in _below(pathlib.Path(folder)):
        try:
            record = _read(path)
            # A copy is no second measurement.
            first = known.setdefault(record["run_id"], path)
            if first != path:
                raise ValueError(f"the same run_id as {first}")
            rows.append(_row(record))
        except (ValueError, OSError) as error:
            skipped.append((path, str(error)))
    if not rows:
        found = "no record.json"
        if skipped:
            found = f"none of {len(skipped)} records can be read, {skipped[0][0]}: {skipped[0][1]}"
        raise ValueError(f"{os.fspath(folder)}: {found}; see docs/records.md")
    order = ["pair", "axis", "method", "point", "seed", "run_id"]
    table = pd.DataFrame(rows).sort_values(order, ignore_index=True)
    table.attrs["skipped"] = skipped
    return table


def _below(folder: pathlib.Path) -> Iterator[str]:
    """Yields the paths of all records, in order."""

    def raised(error: OSError) -> None:
        if error.filename == os.fspath(folder):
            raise error

    for root, folders, files in os.walk(folder, onerror=raised):
        folders[:] = sorted(name for name in folders if name != _SET_ASIDE)
        if "record.json" in files:
            yield os.path.join(root, "record.json")


def _read(path: str | os.PathLike) -> Record:
    raw = pathlib.Path(path).read_bytes()
    try:
        record = _parsed(raw)
        _check(record)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    return record


def _parsed(raw: bytes) -> Record:
    try:
        record = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"can't be read as JSON: {error}") from None
    if b"\\ud" in raw or b"\\uD" in raw:  # half a character would stop whoever writes a table
        text = json.dumps(record, ensure_ascii=False)
        record = json.loads(text.encode("utf-8", "replace"))
    return record


def _check(record: object) -> None:
    """Raises a ValueError that names the field which is missing or wrong."""
    if not isinstance(record, dict):
        raise ValueError("is no JSON object")
    _check_schema(record.get("schema"))
    _check_numbers(record)
    kind = record.get("kind")
    if kind not in (None, "trial"):
        raise ValueError(f"kind is {_shown(kind)}, where 'trial' or none is known")
    required = _RUN if kind is None else _TRIAL | _OF_STATUS.get(str(record.get("status")), {})
    for field in required:
        if record.get(field) is None:
            of = "a trial" if kind else "a run of pipelines.prune"
            raise ValueError(f"{field} is missing, which the record of {of} needs")
    for field, value in record.items():
        form = required.get(field) or _OPTIONAL.get(field)
        if form and value is not None and not form.accepts(value):
            raise ValueError(f"{field} is {_shown(value)}, where {form.name} is needed")


def _check_schema(found: object) -> None:
    if type(found) is int and found == SCHEMA:
        return
    remedy = "measure again, or write it anew as docs/records.md says"
    if isinstance(found, int) and found > SCHEMA:
        remedy = "a newer tfprune wrote it: update this one"
    raise ValueError(f"schema is {_shown(found)}, where {SCHEMA} is needed: {remedy}")


def _check_numbers(value: Record | list[object], where: str = "") -> None:
    """Raises a ValueError that names the field with a number that a table can't hold."""
    # A benchmark has a million of them: exact types, and a field's path only where it is needed.
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        kind = type(inner)
        if kind is dict or kind is list:
            _check_numbers(inner, f"{where}{key}.")
        elif kind is float and not math.isfinite(inner):
            raise ValueError(f"{where}{key} is {inner}, where a finite number is needed")
        elif kind is int and abs(inner) >= 2**63:
            raise ValueError(f"{where}{key} is too large a number")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(kind: type, value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, kind) for x in value)


class _Form(NamedTuple):
    """What the value of a field has to be."""

    name: str
    accepts: Callable[[object], bool]


_TEXT = _Form("text", lambda x: isinstance(x, str))
_WORD = _Form("a word or more", lambda x: isinstance(x, str) and bool(x.strip()))
_BOOL = _Form("true or false", lambda x: isinstance(x, bool))
_WHOLE = _Form("a whole number", lambda x: type(x) is int)
_NUMBER = _Form("a number", _is_number)
_RATIO = _Form("a number above 0", lambda x: _is_number(x) and x > 0)
_POINT = _Form("a number of 1 or more", lambda x: _is_number(x) and x >= 1)
_SHARE = _Form("a fraction from 0 to 1", lambda x: _is_number(x) and 0 <= x <= 1)
_AXIS = _Form(" or ".join(AXES), lambda x: x in AXES)
_STATUS = _Form("ok or failed", lambda x: x in ("ok", "failed"))
_OBJECTS = _Form("a list of objects", functools.partial(_is_list_of, dict))
_NAMES = _Form("a list of names", functools.partial(_is_list_of, str))


def _fields(*rows: tuple[_Form, str]) -> dict[str, _Form]:
    return {name: form for form, names in rows for name in names.split()}


_MEASURED = _fields(
    (_SHARE, "base_top1 pruned_top1"), (_RATIO, "compression_ratio theoretical_speedup")
)
_NAMED = _fields((_WORD, "run_id dataset model"))
_TRIAL = _NAMED | _fields(
    (_WORD, "method"),
    (_STATUS, "status"),
    (_AXIS, "axis"),
    (_POINT, "point"),
    (_WHOLE, "seed"),
    (_BOOL, "control"),
)
_OF_STATUS = {"ok": _MEASURED, "failed": _fields((_TEXT, "error"))}
_RUN = _NAMED | _MEASURED
_RUN |= _fields((_TEXT, "flag_criterion flag_granularity"), (_WHOLE, "flag_seed"))
_OPTIONAL = _fields(
    (_TEXT, "protocol criterion allocation correction granularity replays error traceback"),
    (_TEXT, "starting_weights_sha256 optimizer augment selection"),
    (_NUMBER, "epochs steps batch_size learning_rate calibration_samples"),
    (_NUMBER, "classes train_examples"),
    (_SHARE, "base_top5 untuned_top1 pruned_top5 pruned_val_top1 sparsity"),
    (_NUMBER, "base_loss base_params base_macs entropy_bytes"),
    (_NUMBER, "pruned_loss pruned_params pruned_nonzero_params pruned_macs pruned_nonzero_macs"),
    (_NUMBER, "seconds_prune seconds_finetune seconds_total"),
    (_OBJECTS, "tflite layers channels"),
    (_NAMES, "protected"),
)
_LISTS = ("protected", "layers", "channels")
# A table has these columns whatever its records know.
_EMPTY = {
    name: math.nan if form in (_NUMBER, _SHARE, _RATIO) else None
    for name, form in (_TRIAL | _MEASURED | _OPTIONAL).items()
    if form not in (_OBJECTS, _NAMES)
} | {"preprocess": None}


def _row(record: Record) -> Record:
    """Returns the row of a record."""
    if record.get("kind") is None:
        record = record | _trial_of(record)
    pair = f"{record['model']} on {record['dataset']}"
    said = {key: value for key, value in record.items() if isinstance(value, str | int | float)}
    if isinstance(record.get("preprocess"), dict):
        said["preprocess"] = json.dumps(record["preprocess"], sort_keys=True)
    # What a file is called must not replace a field that others rely on.
    known = {key: said[key] for key in said if key in _EMPTY}
    lists = {key: record.get(key) or [] for key in _LISTS}
    return {"pair": pair} | _EMPTY | said | _files(record) | known | lists | {"pair": pair}


def _trial_of(record: Record) -> Record:
    """Returns how a run of pipelines.prune would be called as a trial."""
    criterion, allocation = record["flag_criterion"], record.get("flag_allocation") or "global"
    granularity = record["flag_granularity"]
    correction = record.get("flag_correction") or "own"
    axis = "macs" if granularity.startswith("channel") else "compression"
    reached = record["theoretical_speedup" if axis == "macs" else "compression_ratio"]
    settings = ("epochs", "batch_size", "learning_rate", "augment", "calibration_samples")
    return {
        "kind": "run",
        "status": "ok",
        "method": Method(criterion, allocation, correction).name,
        "criterion": criterion,
        "allocation": allocation,
        "correction": correction,
        "granularity": granularity,
        "control": False,
        "axis": axis,
        # Else no two seeds would be of one point.
        "point": max(1.0, round(reached, 2)),
        "seed": record["flag_seed"],
        "protected": record.get("flag_protect"),
        **{key: record.get(f"flag_{key}") for key in settings},
    }


def _files(record: Record) -> Record:
    """Returns what is known of the pruned model's files on the first device that is real."""
    files = [
        file
        for file in record.get("tflite") or []
        if not file.get("emulated") and file.get("model") != "baseline"
    ]
    found = {}
    for file in files:
        if file.get("device") == files[0].get("device"):
            variant = file.get("variant")
            found[f"{variant}_status"] = str(file.get("status"))
            for key in FILE_NUMBERS:
                value = file.get(key)
                found[f"{variant}_{key}"] = float(value) if _is_number(value) else math.nan
    return found
