"""A .tflite file run in a process of its own: no fault of the runtime reaches the caller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

WORKER = Path(__file__).with_name("worker.py")
_CHATTER = ("INFO:", "W0000", "I0000", "WARNING: All log messages before")

Inputs = np.ndarray | Path | Sequence[np.ndarray | Path] | Mapping[str, np.ndarray | Path]


def run(
    file: str | os.PathLike,
    inputs: Inputs,
    *,
    threads: int = 1,
    warmup: int = 10,
    runs: int = 50,
    min_seconds: float = 0.5,
    max_seconds: float = 30.0,
    timeout: float = 120.0,
    outputs: bool = True,
) -> dict:
    """Returns what LiteRT, with its default delegate, makes of a .tflite `file`.

    One interpreter alone is timed at batch 1. Afterwards, and not before, several share the
    samples to get all outputs.

    Args:
      file: the .tflite file.
      inputs: samples, one a row: an array, a list of arrays in the order of the inputs, or
        {input name: array}. A .npy file may stand for an array. Floats are quantised for int8
        inputs by the tensor's own scale and zero point.
      threads: of the interpreter.
      warmup: runs that are not timed.
      runs: least number of timed runs.
      min_seconds: least duration of the timed runs together.
      max_seconds: no new timed run starts after this, whatever `runs` says.
      timeout: seconds without progress after which the run counts as hung and is ended.
      outputs: whether to run all samples and return their outputs.

    Returns:
      `status` "ok" with `outputs` (float32 arrays, one row a sample, dequantised), `init_ms` (load
      and allocate), `latency_ms_median`, `latency_ms_iqr` (p75 - p25), `latency_ms_p90`,
      `latency_ms_min`, `runs`, `threads`, `peak_memory_bytes` (highest resident memory while
      loading and running, less that before), `sparse_tensors`, `samples`, `runtime`, `machine`.
      Or `status` "failed" with `reason`: an error, the signal that ended it, or no progress.

    Raises:
      OSError: if the file doesn't exist, or there is no room for temporary files.
    """
    request = {
        "model": _resolved(file),
        "outputs": "." if outputs else None,
        "threads": threads,
        "warmup": warmup,
        "runs": runs,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
        "workers": _cpus(),
    }
    with tempfile.TemporaryDirectory(prefix="tfprune-") as name:
        folder = Path(name)
        result = _answer(request, inputs, folder, timeout=timeout)
        if outputs and result["status"] == "ok":
            files = sorted(folder.glob("output_*.npy"), key=lambda path: (len(path.name), path))
            result["outputs"] = [np.load(path, allow_pickle=False) for path in files]
    return result


def compare(
    files: Sequence[str | os.PathLike],
    inputs: Inputs,
    *,
    threads: int = 1,
    warmup: int = 10,
    runs: int = 50,
    min_seconds: float = 0.5,
    max_seconds: float = 30.0,
    timeout: float = 120.0,
) -> np.ndarray:
    """Returns the milliseconds of one inference of each file, turn by turn, (turns, files).

    The files take turns of ten runs in one process, and each value is the median of a turn: what
    slows the machine down for a while slows all files down, and the median of the ratios within
    turns is steadier than the ratio of two medians.

    Args:
      files: .tflite files that take the same inputs.
      inputs: as in `run`.
      threads: as in `run`.
      warmup: as in `run`.
      runs: least number of timed runs of each file.
      min_seconds: least duration of all turns together.
      max_seconds: no new turn starts after this.
      timeout: as in `run`.

    Raises:
      RuntimeError: if a file can't be run, with the reason.
      OSError: if a file doesn't exist, or there is no room for temporary files.
    """
    request = {
        "models": [_resolved(file) for file in files],
        "threads": threads,
        "warmup": warmup,
        "runs": runs,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
    }
    with tempfile.TemporaryDirectory(prefix="tfprune-") as name:
        result = _answer(request, inputs, Path(name), timeout=timeout)
    if result["status"] != "ok":
        raise RuntimeError(f"the files can't be timed: {result['reason']}")
    return np.array(result["turns"])


def _resolved(file: str | os.PathLike) -> str:
    if not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(file)!r}")
    return str(Path(file).resolve())


def _answer(request: dict, inputs: Inputs, folder: Path, *, timeout: float) -> dict:
    """Returns the worker's answer, or `status` "failed" with the `reason` why there is none."""
    request = request | {"inputs": _store(inputs, folder), "result": "result.json"}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    if reason := _call(folder, timeout=timeout):
        return {"status": "failed", "reason": reason}
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def _cpus() -> int:
    # A container or taskset may allow fewer than there are; only Linux can tell.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _store(inputs: Inputs, folder: Path) -> dict[str, str]:
    if isinstance(inputs, np.ndarray | Path):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        inputs = {f"input_{i}": part for i, part in enumerate(inputs)}
    stored = {}
    for i, (name, part) in enumerate(inputs.items()):
        if isinstance(part, Path):
            stored[name] = str(part.resolve())
        else:
            np.save(folder / f"samples_{i}.npy", np.asarray(part), allow_pickle=False)
            stored[name] = f"samples_{i}.npy"
    return stored


def _call(folder: Path, *, timeout: float) -> str | None:
    """Runs the worker in `folder`; returns why it gave no result, None if it did."""
    said, errors = folder / "stdout", folder / "stderr"
    # -P keeps the worker's own folder from hiding modules of the same names.
    command = [sys.executable, "-P", str(WORKER), str(folder / "request.json")]
    with said.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own script, and no shell
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            code = _wait(process, said, timeout=timeout)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code is None:
        return f"no progress for {timeout:g} s, so it was ended{_last_lines(errors)}"
    if code < 0:
        return f"the runtime crashed: killed by {_signal_name(-code)}{_last_lines(errors)}"
    if code or not (folder / "result.json").is_file():
        return f"the worker ended with code {code} and no result{_last_lines(errors)}"
    return None


def _wait(process: subprocess.Popen, said: Path, *, timeout: float) -> int | None:
    """Returns the exit code, None if `timeout` seconds pass without a word in `said`."""
    seen = -1
    while (size := said.stat().st_size) != seen:
        seen = size
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            continue
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(errors: Path, *, count: int = 3) -> str:
    lines = errors.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith(_CHATTER)]
    return f": {' | '.join(lines[-count:])}" if lines else ""
