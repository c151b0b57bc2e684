"""Every variant of a model as a .tflite file that is known to load, agree and run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfprune import registry
from tfprune.graph import precision
from tfprune.measurement import entropy, runtime, size
from tfprune.tflite import convert, samples
from tfprune.tflite.reference import Reference, build_reference
from tfprune.tflite.variants import VARIANTS, Variant

if TYPE_CHECKING:
    import keras
    import pandas as pd
    import tensorflow as tf

    from tfprune.batches import Data

_TEXT = ("variant", "status", "reason", "note", "file")
_COUNTS = ("bytes", "gzip_bytes", "entropy_bytes", "huffman_bytes")
_FRACTIONS = ("top1", "top5", "top1_agreement", "max_abs_error", "mean_abs_error", "relative_error")
_TIMES = (
    "latency_ms_median",
    "latency_ms_iqr",
    "latency_ms_p90",
    "latency_ms_min",
    "init_ms",
)
_RUN = ("runs", "threads", "peak_memory_bytes", "sparse_tensors", "samples")
COLUMNS = (*_TEXT, *_COUNTS, *_FRACTIONS, *_TIMES, *_RUN, "runtime")


def export(
    model: keras.Model,
    directory: str | os.PathLike,
    *,
    variants: Sequence[str] | None = None,
    calibration: Data | None = None,
    evaluation: Data | None = None,
    calibration_samples: int = 200,
    threads: int = 1,
    runs: int = 50,
    timeout: float = 120.0,
) -> pd.DataFrame:
    """Writes `<variant>.tflite` files into `directory` and returns a table, one row a variant.

    Each file is converted under a temporary name, loaded by LiteRT with its default delegate in
    a process of its own, run on every sample, compared with Keras and timed. Only a file that
    loads and agrees gets its name. A variant that doesn't is a row with `status` "failed" and a
    `reason`, and leaves no file, not even one of an earlier export.

    Args:
      model: a trained Keras model. It is not changed.
      directory: where the files go; it is made if need be.
      variants: names in `variants.VARIANTS`; all by default.
      calibration: training inputs for `int8`, with or without labels: arrays or batches.
      evaluation: test data, a tf.data.Dataset of (x, y) batches or a tuple of arrays. Accuracy
        and agreement are over all of it, in memory. Without it calibration samples are
        compared, without those random ones, and `note` says so.
      calibration_samples: how many samples of `calibration` are used.
      threads: of the interpreter that is timed.
      runs: least number of timed runs.
      timeout: seconds without progress after which a file counts as hung.

    Returns:
      `variant`, `status`, `reason`, `note`, `file` (relative to `directory`), `bytes`,
      `gzip_bytes`, `entropy_bytes` and `huffman_bytes` (of the constants in it, see
      `tfprune.measurement.entropy`), `top1`, `top5`, `top1_agreement` (fraction of samples on which
      file and Keras pick the same class), `max_abs_error`, `mean_abs_error`, `relative_error` (see
      `parity.compare`), `latency_ms_*`, `init_ms`, `runs`, `threads`, `peak_memory_bytes`,
      `sparse_tensors` (weights stored without their zeros), `samples`, `runtime`. What doesn't
      apply is missing. Keras' own accuracy is in `table.attrs["keras"]`.

    Raises:
      ValueError: for an unknown variant, data that don't fit, or outputs of Keras that are NaN.
      OSError: if `directory` can't be written, naming it.
    """
    import keras
    import pandas as pd
    from absl import logging

    variants = list(VARIANTS) if variants is None else list(variants)
    for name in variants:
        if name not in VARIANTS:
            raise registry.unknown("variant", name, VARIANTS)
    with _writing(directory):
        Path(directory).mkdir(parents=True, exist_ok=True)
        # Known before minutes are spent on converting.
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
    rows = []
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        stored = _store(keras.tree.flatten(reference.inputs), Path(folder))

        def run(file: Path) -> dict:
            return runtime.run(file, stored, threads=threads, runs=runs, timeout=timeout)

        for name in variants:
            file = Path(directory, f"{name}.tflite")
            row = {"variant": name, "note": reference.note}
            row |= _make(file, module, VARIANTS[name], ranges, reference=reference, run=run)
            logging.info("%s", _line(row))
            rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(_COUNTS + _RUN, "Int64"))
    table = table.astype(dict.fromkeys(_FRACTIONS + _TIMES, "float64"))
    table.attrs["keras"] = reference.metrics
    return table


def _make(
    file: Path,
    module: tf.Module,
    variant: Variant,
    calibration: Sequence[np.ndarray] | None,
    *,
    reference: Reference,
    run: Callable[[Path], dict],
) -> dict:
    """Returns the row of one variant; afterwards `file` is verified, or doesn't exist."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        content = convert.convert(module, variant, calibration)
        with _writing(file.parent):
            partial.write_bytes(content)
        row = _verify(partial, variant, reference, run)
        if row["status"] == "ok":
            with _writing(file.parent):
                partial.replace(file)
            row |= {"file": file.name, **size.file_size(file)}
            row |= entropy.of_file(file)._asdict()
    except (ValueError, RuntimeError) as error:
        row = {"status": "failed", "reason": str(error)}
    finally:
        partial.unlink(missing_ok=True)
    if row["status"] != "ok":
        file.unlink(missing_ok=True)
    return row


def _verify(
    file: Path, variant: Variant, reference: Reference, run: Callable[[Path], dict]
) -> dict:
    """Returns the figures of `file`, and "ok" only if it runs and agrees with Keras."""
    result = run(file)
    if result["status"] != "ok":
        return result
    errors = reference.judge(result.pop("outputs"))
    wrong = not errors["relative_error"] <= variant.tolerance
    if wrong:
        # Its timings would be those of a wrong computation.
        return {"status": "failed", "reason": _why(errors, variant), **errors}
    row = {"reason": "", **result, **errors}
    if variant.sparse and not result["sparse_tensors"]:
        reference = reference.noting("no weight has the 30 % zeros that sparse storage needs")
        row["note"] = reference.note
    return row


def _why(errors: dict[str, float], variant: Variant) -> str:
    if np.isinf(errors["relative_error"]):
        return "the file returns NaN or infinite values where Keras' are finite"
    return (
        f"the file disagrees with Keras: mean error {errors['relative_error']:.3g} of the spread "
        f"of Keras' outputs, where {variant.tolerance:g} is allowed "
        f"(largest {errors['max_abs_error']:.3g})"
    )


def _line(row: dict) -> str:
    if row["status"] != "ok":
        return f"{row['variant']}: failed: {row['reason']}"
    top1 = f", top-1 {100 * row['top1']:.2f} %" if "top1" in row else ""
    return (
        f"{row['variant']}: ok, {row['bytes']:,} bytes, "
        f"{row['latency_ms_median']:.3g} ms (median of {row['runs']}){top1}"
    )


def _store(arrays: Sequence[np.ndarray], folder: Path) -> list[Path]:
    """Writes the samples once, for all variants."""
    paths = [folder / f"input_{i}.npy" for i in range(len(arrays))]
    for path, part in zip(paths, arrays, strict=True):
        np.save(path, part, allow_pickle=False)
    return paths


@contextlib.contextmanager
def _writing(directory: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"can't write into directory {os.fspath(directory)}: {error.strerror or error}"
        raise OSError(error.errno, message) from error
