"""How long each layer of a model takes, each converted and timed alone."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfprune.graph import trace as tracing
from tfprune.graph.kernels import Kernel
from tfprune.measurement import runtime
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

if TYPE_CHECKING:
    import keras

log = logging.getLogger("tfprune")


def layer_times(
    model: keras.Model, kernels: Sequence[Kernel], *, threads: int = 1, runs: int = 50
) -> dict[str, float]:
    """Returns {kernel name: milliseconds of its layer}, as LiteRT runs it here in float32.

    A layer is made a file of its own for each shape of input that it is called with. What
    surrounds it in the whole file may be fused with it or keep it from the cache, so that these
    are shares of the time rather than parts that add up to it. A layer with several kernels
    counts a part for each, by their weights.

    Args:
      model: a built Keras model with inputs of known size.
      kernels: whose layers are timed.
      threads: of the interpreter.
      runs: timed runs of each file, at least.

    Raises:
      ValueError: if the model leaves its input size open.
      RuntimeError: for a layer that can't be timed alone, with the reason.
    """
    calls: dict[int, list[tuple[int, ...]]] = {}
    for call in tracing.trace(model):
        calls.setdefault(id(call.layer), []).extend(tuple(x.shape[1:]) for x in call.inputs[:1])
    times: dict[tuple[int, tuple[int, ...]], float] = {}
    result = {}
    for kernel in kernels:
        layer, total = kernel.layer, 0.0
        if id(layer) not in calls:
            raise RuntimeError(
                f"layer {layer.name!r} is not called as one, it can't be timed alone"
            )
        for shape in calls[id(layer)]:
            key = id(layer), shape
            if key not in times:
                times[key] = _time(layer, shape, threads, runs)
                log.info("%s on %s: %.4g ms", layer.name, shape, times[key])
            total += times[key]
        size = sum(x.size for x in kernels if x.layer is layer)
        result[kernel.name] = total * kernel.size / size
    return result


def _time(layer: keras.layers.Layer, shape: tuple[int, ...], threads: int, runs: int) -> float:
    example = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        path = Path(folder) / "layer.tflite"
        try:
            # The layer alone stands in for a model: called on tensors it keeps no record of it.
            path.write_bytes(convert.convert(convert.trace(layer, example), VARIANTS["float32"]))
        except (ValueError, TypeError) as error:
            raise RuntimeError(f"layer {layer.name!r} can't be timed alone: {error}") from error
        found = runtime.run(path, example, threads=threads, runs=runs, outputs=False)
    if found["status"] != "ok":
        raise RuntimeError(f"layer {layer.name!r} can't be timed alone: {found['reason']}")
    return found["latency_ms_median"]
