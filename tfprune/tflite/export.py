"""Every variant of a model as a .tflite file that is known to load, agree and run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import logging

from tfprune import registry
from tfprune.graph import precision
from tfprune.measurement import devices as places
from tfprune.measurement import entropy, size
from tfprune.tflite import clusters, convert, flatbuffer, metadata, samples, sparse_storage
from tfprune.tflite.reference import build_reference
from tfprune.tflite.trial import Trial, on_devices
from tfprune.tflite.variants import DEFAULT, VARIANTS, Variant

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    from tfprune.batches import Data

_TEXT = ("variant", "device", "status", "reason", "note", "file")
_COUNTS = ("bytes", "gzip_bytes", "entropy_bytes", "huffman_bytes")
_FRACTIONS = ("top1", "top5", "top1_agreement", "max_abs_error", "mean_abs_error", "relative_error")
_TIMES = (
    "latency_ms_median",
    "latency_ms_iqr",
    "latency_ms_p90",
    "latency_ms_min",
    "latency_ratio",
    "latency_ratio_iqr",
    "init_ms",
)
_RUN = ("runs", "threads", "peak_memory_bytes", "sparse_tensors", "sparse_kernels", "samples")
COLUMNS = (*_TEXT, *_COUNTS, *_FRACTIONS, *_TIMES, *_RUN, "emulated", "runtime", "machine")


def export(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    variants: Sequence[str] = DEFAULT,
    devices: Sequence[str | places.Device] = ("local",),
    baseline: str | os.PathLike | None = None,
    calibration: Data | None = None,
    evaluation: Data | None = None,
    calibration_samples: int = 200,
    device_samples: int | None = None,
    described: metadata.Metadata | None = None,
    threads: int = 1,
    runs: int = 50,
    timeout: float = 120.0,
) -> pd.DataFrame:
    """Writes `<variant>.tflite` files into `directory`; returns a table of variants and devices.

    Each file is converted under a temporary name. On each device it is loaded by LiteRT with its
    default delegate in a process of its own, run on samples, compared with Keras and timed. Only
    a file that loads and agrees on every device that answers gets its name. One that doesn't has
    `status` "failed" and a `reason`, and leaves no file, not even one of an earlier export.

    Args:
      model: a trained Keras model. It is not changed.
      directory: where the files go; it is made if need be.
      variants: names in `variants.VARIANTS`.
      devices: where files are run: `local`, `arm64` and `nehalem` (emulated), `ssh:user@host`,
        `adb:serial`, or what `tfprune.measurement.devices.get` returns.
      baseline: a .tflite file with the same inputs, whose latency is compared with; by default the
        `float32` file, if that is among the variants.
      calibration: training inputs for `int8`, with or without labels: arrays or batches.
      evaluation: test data, a tf.data.Dataset of (x, y) batches or a tuple of arrays. Accuracy
        and agreement are over all of it, in memory. Without it calibration samples are
        compared, without those random ones, and `note` says so.
      calibration_samples: how many samples of `calibration` are used.
      device_samples: how many samples are run on devices other than `local`; by default what the
        kind of device has time for.
      described: labels, normalisation and notes to write into the files.
      threads: of the interpreter that is timed.
      runs: least number of timed runs.
      timeout: seconds without progress after which a file counts as hung.

    Returns:
      `variant`, `device`, `status`, `reason`, `note`, `file` (relative to `directory`), `bytes`,
      `gzip_bytes`, `entropy_bytes` and `huffman_bytes` (of the constants in it, see
      `tfprune.measurement.entropy`), `top1`, `top5`, `top1_agreement` (fraction of samples on which
      file and Keras pick the same class), `max_abs_error`, `mean_abs_error`, `relative_error` (see
      `parity.compare`), `latency_ms_*`, `latency_ratio` (to the baseline, in turns with it) and its
      interquartile range, `init_ms`, `runs`, `threads`, `peak_memory_bytes`, `sparse_tensors`
      (weights stored without their zeros), `sparse_kernels` (operators that XNNPACK multiplied by
      sparse matrices, as its own profile says), `samples`, `emulated` (its times are an
      emulator's), `runtime`, `machine`. What doesn't apply is missing. `status` is "ok", "failed",
      or "away" if the device was lost on the way. Keras' own accuracy is in `table.attrs["keras"]`,
      how each kernel of each file is stored, and why so, in `table.attrs["storage"]`, times of
      single operators, where a device tells them, in `table.attrs["ops"]`.

    Raises:
      ValueError: for an unknown variant or device, data or labels that don't fit, or outputs of
        Keras that are NaN.
      OSError: if `directory` can't be written, or a device doesn't answer, naming it.
    """
    import keras
    import pandas as pd

    variants, targets = list(variants), [places.get(device) for device in devices]
    for name in variants:
        if name not in VARIANTS:
            raise registry.unknown("variant", name, VARIANTS)
    if not targets:
        raise ValueError("devices= is empty: name at least one, such as local")
    # What can't go well is known before minutes are spent on converting.
    for device in targets:
        device.check()
    with _writing(directory):
        Path(directory).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    ranges = None
    if calibration is not None:
        collected = samples.collect(calibration, model, limit=calibration_samples)
        ranges = keras.tree.flatten(collected.inputs)
    with precision.in_float32(model) as changed:
        reference = build_reference(model, calibration=calibration, evaluation=evaluation)
        module = convert.trace(model, reference.inputs)
    if changed:
        reference = reference.noting("computed in float32, not in the model's mixed precision")
    for part, other in zip(ranges or (), keras.tree.flatten(reference.inputs), strict=False):
        if part.shape[1:] != other.shape[1:]:
            raise ValueError(
                f"samples of calibration= have shape {part.shape[1:]}, those of evaluation= "
                f"{other.shape[1:]}: a file takes one of both"
            )
    described = described or metadata.Metadata()
    described.check(reference.classes)
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        options = {"threads": threads, "runs": runs, "timeout": timeout}
        trials = on_devices(
            targets,
            reference,
            folder=folder,
            baseline=baseline,
            device_samples=device_samples,
            options=options,
        )
        made = _Files(Path(directory), module, ranges, described, trials, note=reference.note)
        for name in variants:
            made.add(name)
    table = pd.DataFrame(made.rows).reindex(columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(_COUNTS + _RUN, "Int64"))
    table = table.astype(dict.fromkeys(_FRACTIONS + _TIMES, "float64"))
    table.attrs |= {"keras": reference.metrics, "storage": made.storage, "ops": made.ops}
    return table


class _Files:
    """The files of a directory, one variant after the other, and what was found out about them."""

    def __init__(
        self,
        directory: Path,
        module: tf.Module,
        ranges: Sequence[np.ndarray] | None,
        described: metadata.Metadata,
        trials: Sequence[Trial],
        *,
        note: str,
    ) -> None:
        self.directory, self.module, self.ranges = directory, module, ranges
        self.described, self.trials, self.note = described, trials, note
        self.rows: list[dict] = []
        self.storage: list[dict] = []
        self.ops: list[dict] = []

    def add(self, name: str) -> None:
        """Makes the file of a variant; afterwards it is verified, or doesn't exist."""
        file = self.directory / f"{name}.tflite"
        partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
        facts: dict[str, object] = {"variant": name}
        try:
            notes, kernels = self._write(partial, VARIANTS[name])
            tolerance = VARIANTS[name].tolerance
            found = [trial.verify(partial, tolerance=tolerance) for trial in self.trials]
            if any(row["status"] == "failed" for row in found):
                found = [_withdrawn(row, found) for row in found]
            else:
                with _writing(self.directory):
                    partial.replace(file)
                facts |= {"file": file.name, **size.file_size(file)}
                facts |= entropy.of_file(file)._asdict()
                self.storage += [{"variant": name, **kernel._asdict()} for kernel in kernels]
                if name == "float32":
                    self._compare_with(file, found)
        except (ValueError, RuntimeError) as error:
            notes, failed = [], {"status": "failed", "reason": str(error)}
            found = [trial.row | failed for trial in self.trials]
        finally:
            partial.unlink(missing_ok=True)
        if "file" not in facts:
            file.unlink(missing_ok=True)
        for row in found:
            ops = row.pop("ops", [])
            self.ops += [{"variant": name, "device": row["device"], **op} for op in ops]
            said = [self.note, *notes, row.pop("note", "")]
            self.rows.append(facts | row | {"note": "; ".join(part for part in said if part)})
            logging.info("%s", _line(self.rows[-1]))

    def _write(
        self, file: Path, variant: Variant
    ) -> tuple[list[str], list[sparse_storage.Storage]]:
        """Writes the file of a variant; returns what is to be noted, and how kernels are stored."""
        content = convert.convert(self.module, variant, self.ranges)
        kernels = sparse_storage.describe(flatbuffer.read(content))
        with _writing(self.directory):
            file.write_bytes(metadata.add(content, self.described))
        if not variant.sparse:
            return [], kernels
        count = sum(kernel.sparse for kernel in kernels)
        notes = [f"{count} of {len(kernels)} kernels are stored without their zeros"]
        why = "" if count else clusters.fault(convert.without_zeros(content))
        if why:
            notes.append(f"without, Arm processors would compute wrong values: {why}")
            kernels = [kernel._replace(reason=kernel.reason or notes[1]) for kernel in kernels]
        return notes, kernels

    def _compare_with(self, file: Path, found: Sequence[dict]) -> None:
        """Has further files timed beside this one, unless there is another to be timed beside."""
        for trial, row in zip(self.trials, found, strict=True):
            if trial.baseline is None:
                trial.baseline = file
                row["latency_ratio"] = 1.0


def _withdrawn(row: dict, others: Sequence[dict]) -> dict:
    """Returns the row of a file that isn't shipped; where it works, it says where it doesn't."""
    where = [other["device"] for other in others if other["status"] == "failed"]
    if row["status"] == "failed":
        return row
    return row | {"status": "failed", "reason": f"works here, but fails on {', '.join(where)}"}


def _line(row: dict) -> str:
    name = f"{row['variant']} on {row['device']}"
    if row["status"] != "ok":
        return f"{name}: {row['status']}: {row['reason']}"
    top1 = f", top-1 {100 * row['top1']:.2f} %" if "top1" in row else ""
    emulated = " emulated" if row["emulated"] else ""
    return (
        f"{name}: ok, {row['bytes']:,} bytes, "
        f"{row['latency_ms_median']:.3g} ms{emulated} (median of {row['runs']}){top1}"
    )


@contextlib.contextmanager
def _writing(directory: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"can't write into directory {os.fspath(directory)}: {error.strerror or error}"
        raise OSError(error.errno, message) from error
