"""Any .tflite files, side by side, on several devices."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfprune.measurement import devices as places
from tfprune.measurement import entropy, runtime, size
from tfprune.tflite import flatbuffer, samples
from tfprune.tflite.reference import Reference
from tfprune.tflite.trial import on_devices

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from ai_edge_litert import schema_py_generated as schema

    from tfprune.batches import Data


def benchmark(
    files: Sequence[str | os.PathLike],
    *,
    devices: Sequence[str | places.Device] = ("local",),
    data: Data | None = None,
    device_samples: int | None = None,
    threads: int = 1,
    runs: int = 50,
    timeout: float = 120.0,
) -> pd.DataFrame:
    """Returns a table of `files` on `devices`: whether they run, and what they cost.

    The first file is what the others are compared with: it is timed in turns with each, and its
    outputs on this machine are what outputs are compared with.

    Args:
      files: .tflite files that take the same inputs.
      devices: as in `tfprune.export`.
      data: test data, batches or arrays (x, y), in the form that the files take in float32.
        Without it random samples are used, and there is no accuracy.
      device_samples: as in `tfprune.export`.
      threads: as in `tfprune.export`.
      runs: as in `tfprune.export`.
      timeout: as in `tfprune.export`.

    Returns:
      The columns of `tfprune.export`, without `variant` and `reason` for what works; errors are
      those against the first file. `table.attrs["ops"]` are times of single operators, where a
      device tells them.

    Raises:
      ValueError: if a file is no TFLite file, the first doesn't run here, or data don't fit.
      OSError: if a file can't be read, or a device doesn't answer.
    """
    import pandas as pd

    files = [Path(file) for file in files]
    targets = [places.get(device) for device in devices]
    if not files or not targets:
        raise ValueError("nothing to measure: name at least one file and one device")
    models = [flatbuffer.read(file) for file in files]
    for device in targets:
        device.check()
    inputs, labels = samples.collect(data) if data is not None else (_random(models[0]), None)
    rows, ops = [], []
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        reference = _reference(files[0], inputs, labels, timeout=timeout)
        trials = on_devices(
            targets,
            reference,
            folder=folder,
            baseline=files[0],
            device_samples=device_samples,
            options={"threads": threads, "runs": runs, "timeout": timeout},
        )
        for file in files:
            facts = {"file": os.fspath(file), **size.file_size(file)}
            facts |= entropy.of_file(file)._asdict()
            for trial in trials:
                row = facts | trial.verify(file, tolerance=np.inf)
                found = row.pop("ops", [])
                ops += [{"file": file.name, "device": row["device"], **op} for op in found]
                rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["ops"] = ops
    return table


def _reference(
    file: Path, inputs: object, labels: np.ndarray | None, *, timeout: float
) -> Reference:
    """Returns the samples with the outputs of `file` on this machine."""
    import keras

    found = runtime.run(file, keras.tree.flatten(inputs), runs=1, min_seconds=0, timeout=timeout)
    if found["status"] != "ok":
        raise ValueError(
            f"file {os.fspath(file)!r}, with which the others are compared, doesn't run here: "
            f"{found['reason']}"
        )
    outputs = found["outputs"]
    single = len(outputs) == 1
    loss = _loss(outputs[0], labels) if single else None
    return Reference(inputs, outputs, labels if single else None, loss, note="")


def _loss(outputs: np.ndarray, labels: np.ndarray | None) -> keras.losses.Loss | None:
    """Returns the loss of classes, which tells how outputs are to be read."""
    import keras

    if outputs.shape[-1] == 1:
        return keras.losses.BinaryCrossentropy() if labels is not None else None
    if labels is not None and labels.shape == outputs.shape:
        return keras.losses.CategoricalCrossentropy()
    return keras.losses.SparseCategoricalCrossentropy()


def _random(model: schema.ModelT, *, count: int = 32) -> list[np.ndarray]:
    """Returns normal random samples for a file's inputs, zeros and ones for plain integers."""
    from ai_edge_litert.schema_py_generated import TensorType

    rng, graph = np.random.default_rng(0), model.subgraphs[0]
    names = {int(i): graph.tensors[i].name for i in graph.inputs}
    for signature in (model.signatureDefs or [])[:1]:
        names = {int(entry.tensorIndex): entry.name for entry in signature.inputs}
    found = []
    # In the order in which the worker takes inputs without names.
    for index in sorted(names, key=lambda i: (len(names[i]), names[i])):
        tensor = graph.tensors[index]
        shape = (count, *(int(n) for n in tensor.shape[1:]))
        quantised = tensor.quantization is not None and tensor.quantization.scale is not None
        plain = tensor.type in (TensorType.INT32, TensorType.INT64) and not quantised
        found.append(rng.integers(0, 2, shape) if plain else rng.normal(size=shape).astype("f4"))
    return found
