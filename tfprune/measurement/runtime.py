"""A .tflite file run on a device, in a process of its own: no fault of the runtime gets here."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfprune.measurement import devices
from tfprune.measurement.devices import Device, _process

# Emulated, an inference takes a thousand times as long, and varies little.
_EMULATED = {"warmup": 1, "runs": 3, "per_turn": 1, "min_seconds": 0.0}

Inputs = np.ndarray | Path | Sequence[np.ndarray | Path] | Mapping[str, np.ndarray | Path]


def run(
    file: str | os.PathLike,
    inputs: Inputs,
    *,
    device: str | Device = "local",
    baseline: str | os.PathLike | None = None,
    threads: int = 1,
    warmup: int = 10,
    runs: int = 50,
    min_seconds: float = 0.5,
    max_seconds: float = 30.0,
    timeout: float = 120.0,
    outputs: bool = True,
    profile: bool = False,
) -> dict:
    """Returns what LiteRT, with its default delegate, makes of a .tflite `file`.

    One interpreter alone computes at a time, at batch 1, warmed up until its times are stable.
    With a `baseline` both files take turns of ten runs: what slows the machine down for a while
    slows both down, and the median of the ratios within turns is steadier than the ratio of two
    medians. After the timing, and not before, several interpreters share the samples to get all
    outputs.

    Args:
      file: the .tflite file.
      inputs: samples, one a row: an array, a list of arrays in the order of the inputs, or
        {input name: array}. A .npy file may stand for an array. Floats are quantised for int8
        inputs by the tensor's own scale and zero point.
      device: where to run it; see `devices.get`. An emulated one is timed three times only.
      baseline: a .tflite file that takes the same inputs, to compare times with.
      threads: of the interpreter.
      warmup: least number of runs that are not timed.
      runs: least number of timed runs.
      min_seconds: least duration of the timed runs together.
      max_seconds: no new timed run starts after this, whatever `runs` says.
      timeout: seconds without progress after which the run counts as hung and is ended; three
        times that on an emulated device.
      outputs: whether to run all samples and return their outputs.
      profile: whether to time single operators as well, where the runtime or the device can.

    Returns:
      `status` "ok" with `outputs` (float32 arrays, one row a sample, dequantised; absent where the
      device can't return them), `init_ms` (load and allocate), `latency_ms_median`,
      `latency_ms_iqr` (p75 - p25), `latency_ms_p90`, `latency_ms_min`, `runs`, `threads`, with a
      baseline `latency_ratio` (to it) and `latency_ratio_iqr`, `peak_memory_bytes` (highest
      resident memory while loading and running, less that before), `sparse_tensors`, `samples`,
      `runtime`, `machine`, and `ops`: rows of `op`, `name`, `ms` and `share`, none where there is
      no profile. Devices of `adb` may lack outputs, medians and memory, and tell a mean. Or
      `status` "failed" with `reason`: an error, the signal that ended it, or no progress.

    Raises:
      OSError: if the file doesn't exist, there is no room for temporary files, or the device is
        away.
    """
    request = {
        "outputs": "." if outputs else None,
        "profile": profile,
        "threads": threads,
        "warmup": warmup,
        "runs": runs,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
    }
    with tempfile.TemporaryDirectory(prefix="tfprune-") as name:
        folder = Path(name)
        files = [file] if baseline is None else [file, baseline]
        result = _answer(request, files, inputs, folder, device=device, timeout=timeout)
        if outputs and result["status"] == "ok":
            made = sorted(folder.glob("output_*.npy"), key=lambda path: (len(path.name), path))
            if made:
                result["outputs"] = [np.load(path, allow_pickle=False) for path in made]
    if devices.get(device).emulated:
        result.pop("peak_memory_bytes", None)  # most of it is the emulator's
    turns = np.array(result.pop("turns", []))
    if baseline is not None and len(turns):
        low, median, high = np.percentile(turns[:, 0] / turns[:, 1], [25, 50, 75])
        result |= {"latency_ratio": float(median), "latency_ratio_iqr": float(high - low)}
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

    The files take turns in one process on this machine, and each value is the median of a turn:
    see `run`, and there for the arguments.

    Raises:
      RuntimeError: if a file can't be run, with the reason.
      OSError: if a file doesn't exist, or there is no room for temporary files.
    """
    request = {
        "outputs": None,
        "threads": threads,
        "warmup": warmup,
        "runs": runs,
        "min_seconds": min_seconds,
        "max_seconds": max_seconds,
    }
    with tempfile.TemporaryDirectory(prefix="tfprune-") as name:
        result = _answer(request, files, inputs, Path(name), device="local", timeout=timeout)
    if result["status"] != "ok":
        raise RuntimeError(f"the files can't be timed: {result['reason']}")
    return np.array(result["turns"])


def _answer(
    request: dict,
    files: Sequence[str | os.PathLike],
    inputs: Inputs,
    folder: Path,
    *,
    device: str | Device,
    timeout: float,
) -> dict:
    """Returns the device's answer, or `status` "failed" with the `reason` why there is none."""
    device = devices.get(device)
    request = request | {
        "models": [_placed(file, folder / f"model_{i}.tflite") for i, file in enumerate(files)],
        "inputs": _store(inputs, folder),
        "result": "result.json",
        "workers": _process.cpus(),
        **(_EMULATED if device.emulated else {}),
    }
    timeout *= 3 if device.emulated else 1
    _placed(devices.WORKER, folder / "worker.py")
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    try:
        device.answer(folder, timeout=timeout)
    except devices.Failed as failure:
        return {"status": "failed", "reason": str(failure)}
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def _placed(file: str | os.PathLike, place: Path) -> str:
    """Puts a file into the request's folder, if it can be without a copy; returns its name."""
    if not Path(file).is_file():
        raise FileNotFoundError(f"there is no file {os.fspath(file)!r}")
    try:
        place.symlink_to(Path(file).resolve())
    except OSError:  # Windows, without the right to make one
        shutil.copyfile(file, place)
    return place.name


def _store(inputs: Inputs, folder: Path) -> dict[str, str]:
    if isinstance(inputs, np.ndarray | Path):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        inputs = {f"input_{i}": part for i, part in enumerate(inputs)}
    stored = {}
    for i, (name, part) in enumerate(inputs.items()):
        place = folder / f"samples_{i}.npy"
        if isinstance(part, Path):
            _placed(part, place)
        else:
            np.save(place, np.asarray(part), allow_pickle=False)
        stored[name] = place.name
    return stored
