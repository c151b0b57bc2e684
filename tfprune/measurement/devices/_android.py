"""A request answered by runs of `benchmark_model`, wherever that is."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tfprune.measurement import devices
from tfprune.measurement.devices import _benchmark_model, _interface, _worker

log = logging.getLogger("tfprune")

# How often the files take turns; each is a start of the tool, with its warm-up.
_TURNS = 3
_PROFILED_RUNS = 20


@dataclasses.dataclass(frozen=True)
class Job:
    """A request that is carried out.

    Attributes:
      folder: holds what the request names, and gets the outputs.
      request: see `_worker`.
      push: copies a file beside the tool.
      pull: moves the file of this name here, and returns whether there was one.
      benchmark: returns what the tool prints for some flags; nothing for that many seconds is no
        hang yet.
    """

    folder: Path
    request: dict
    _: dataclasses.KW_ONLY
    push: Callable[[Path], None]
    pull: Callable[[Path], bool]
    benchmark: Callable[[list[str], float], str]

    def result(self) -> dict:
        """Returns what the worker would, the latency as far as the tool tells it, and `ops`.

        Raises:
          Failed: if a file can't be run.
        """
        models = [self.folder / name for name in self.request["models"]]
        interfaces = [_interface.read(model) for model in models]
        samples = {
            name: np.load(self.folder / path, mmap_mode="r", allow_pickle=False)
            for name, path in self.request["inputs"].items()
        }
        count = min((len(rows) for rows in samples.values()), default=0)
        if not count:
            raise devices.Failed("there are no samples to run the model on")
        runs = []
        for model, interface in zip(models, interfaces, strict=True):
            self.push(model)
            sample = self._sample(interface, samples, row=0, prefix=model.stem)
            runs.append({"graph": model.name, **sample})
        turns = self._turns(runs)
        profile = self._profile(runs[0])
        if self.request.get("outputs"):
            rows = (self._sample(interfaces[0], samples, row, "sample") for row in range(count))
            self._outputs(({**runs[0], **row} for row in rows), interfaces[0])
        return {
            "status": "ok",
            **_merged([turn[0] for turn in turns]),
            # The mean where the tool's version prints no median.
            "turns": [
                [part.get("latency_ms_median", part["latency_ms_mean"]) for part in turn]
                for turn in turns
            ],
            "threads": self.request["threads"],
            "sparse_tensors": interfaces[0].sparse_tensors,
            "samples": count,
            "runtime": "benchmark_model",
            "ops": profile,
        }

    def _sample(
        self, interface: _interface.Interface, samples: dict, row: int, prefix: str
    ) -> dict[str, str]:
        """Puts a sample beside the tool; returns the flags to run a model on it."""
        try:
            pairs = _worker.match(interface.inputs, samples)
        except ValueError as error:
            raise devices.Failed(str(error)) from error
        values = {tensor["index"]: _worker.quantise(rows[row], tensor) for tensor, rows in pairs}
        files = []
        for position, tensor in enumerate(interface.fed):
            files.append(self.folder / f"{prefix}_{position}.bin")
            value = values[tensor["index"]]
            files[-1].write_bytes(value.astype(value.dtype.newbyteorder("<")).tobytes())
            self.push(files[-1])
        # The order counts; names are free, and these need no escapes.
        names = [f"input_{position}" for position in range(len(files))]
        shapes = [",".join(map(str, tensor["shape"])) for tensor in interface.fed]
        contents = [f"{name}:{file.name}" for name, file in zip(names, files, strict=True)]
        chosen = {"signature_to_run_for": interface.signature} if interface.signature else {}
        return {
            "input_layer": ",".join(names),
            "input_layer_shape": ":".join(shapes),
            "input_layer_value_files": ",".join(contents),
            **chosen,
        }

    def _turns(self, runs: list[dict]) -> list[list[dict]]:
        """Returns the figures of each turn and file."""
        count = _TURNS if len(runs) > 1 else 1
        timing = {
            "warmup_runs": self.request["warmup"],
            "num_runs": math.ceil(self.request["runs"] / count),
            "min_secs": self.request["min_seconds"] / count,
            "max_secs": self.request["max_seconds"] / count,
        }
        return [[self._timed({**run, **timing}) for run in runs] for _ in range(count)]

    def _timed(self, flags: dict) -> dict:
        said = self._run(flags)
        figures = _benchmark_model.figures(said)
        if figures is None:
            raise devices.Failed(f"benchmark_model printed no times: {said.strip()[-200:]}")
        return figures

    def _profile(self, flags: dict) -> list[dict]:
        """Returns the rows of the operators, none if they can't be had: see `_benchmark_model.ops`.

        That is a run of its own, since to profile slows the model down.
        """
        timing = {
            "warmup_runs": 1,
            "num_runs": min(self.request["runs"], _PROFILED_RUNS),
            "min_secs": 0,
            "max_secs": self.request["max_seconds"],
        }
        try:
            return _benchmark_model.ops(
                self._run({**flags, **timing, "enable_op_profiling": "true"})
            )
        except devices.Failed as failure:
            log.warning("no profile of the operators: %s", failure)
            return []

    def _outputs(self, runs: Iterable[dict], interface: _interface.Interface) -> None:
        """Stores the outputs of each of `runs`, unless the tool's version returns none."""
        timing = {"warmup_runs": 0, "warmup_min_secs": 0, "num_runs": 1, "min_secs": 0}
        timing["max_secs"] = self.request["max_seconds"]
        made = self.folder / "outputs"
        rows = []
        for run in runs:
            self._run({**run, **timing, "output_filepath": made.name})
            if not self.pull(made):
                log.warning("no outputs: this version of benchmark_model can't return them")
                return
            rows.append(_taken_apart(made.read_bytes(), interface))
        for index, parts in enumerate(zip(*rows, strict=True)):
            np.save(self.folder / f"output_{index}.npy", np.stack(parts), allow_pickle=False)

    def _run(self, flags: dict) -> str:
        # XNNPACK by name, since builds differ in what they do by themselves.
        flags = {"num_threads": self.request["threads"], "use_xnnpack": "true", **flags}
        # It warms up, and then runs, each for so long at most.
        return self.benchmark(
            [f"--{name}={value}" for name, value in flags.items()], 2 * flags["max_secs"]
        )


def _merged(turns: list[dict]) -> dict:
    """Returns the figures of several turns as one: medians of theirs, or what holds for all."""
    names = [name for name in turns[0] if all(turn.get(name) is not None for turn in turns)]
    return {name: float(np.median([turn[name] for turn in turns])) for name in names} | {
        "runs": sum(turn["runs"] for turn in turns),
        "latency_ms_min": min(turn["latency_ms_min"] for turn in turns),
        "latency_ms_max": max(turn["latency_ms_max"] for turn in turns),
    }


def _taken_apart(content: bytes, interface: _interface.Interface) -> list[np.ndarray]:
    """Returns the float32 outputs of a sample from the tool's file, where they are in a row.

    Raises:
      Failed: if the file is of another length.
    """
    sizes = [t["dtype"].itemsize * math.prod(t["shape"].tolist()) for t in interface.left]
    if sum(sizes) != len(content):
        raise devices.Failed(f"outputs take {sum(sizes)} bytes, and {len(content)} came back")
    parts, start = {}, 0
    for tensor, size in zip(interface.left, sizes, strict=True):
        raw = np.frombuffer(content[start : start + size], tensor["dtype"].newbyteorder("<"))
        value = _worker.dequantise(raw, tensor)
        parts[tensor["index"]] = value.reshape(_worker._row_shape(tensor))
        start += size
    return [parts[tensor["index"]] for tensor in interface.outputs]
