"""`Journal`: what became of the masks, at each of their updates and in each epoch.

Masks are compared once an epoch, and kept for it as bits: an eighth of a byte a weight.
"""

import math
import os
from typing import TYPE_CHECKING

import keras
import numpy as np
import tensorflow as tf

from tfprune import masks
from tfprune.graph import kernels as k
from tfprune.sparse_training import Training

if TYPE_CHECKING:
    import pandas as pd

# What is noted of each kernel when an epoch ends.
_FIELDS = ("sparsity", "threshold", "pruned", "regrown")


class Journal:
    """Notes how a training prunes, for tables and TensorBoard; carried over a stop.

    Of each kernel at the end of each epoch: `sparsity`; `threshold`, the smallest magnitude that
    the last update of the masks left in it, 0 where nothing is pruned, or what the method itself
    compares with (alpha of "str", a score of "movement"); `pruned` and `regrown`, the shares of its
    weights that were there and are not, or are again, since the end of the epoch before.

    Args:
      training: what is noted.
      folder: for TensorBoard's files, None for none. Those of an earlier training are replaced, and
        what was noted before a stop is written again, so that nothing is there twice. Where a
        training begins at a later epoch and knows nothing of those before, they stay.
    """

    def __init__(self, training: Training, folder: str | None) -> None:
        self._training, self._folder = training, folder
        kernels = training.plan.kernels
        self._sizes = np.array([kernel.size for kernel in kernels])
        self._updates = np.empty((0, 3))
        self._epochs = np.empty(0, np.int64)
        self._rows = np.empty((0, len(kernels), len(_FIELDS)), np.float32)
        self._least = np.zeros(len(kernels))
        self._bits: list[np.ndarray] = []
        self._final: list[np.ndarray] | None = None
        self._writer: tf.summary.SummaryWriter | None = None

    def begin(self, values: dict[str, np.ndarray] | None, epoch: int) -> None:
        """Begins, or goes on after what `state` returned before a stop."""
        self._bits = self._now()
        if values:
            self._updates, self._epochs = values["updates"], values["epochs"]
            self._rows, self._least = values["rows"], values["least"]
            self._bits = [values[f"bits{i}"] for i in range(len(self._bits))]
        # Of several processes that train one model, one writes.
        if self._folder and self._training.model.distribute_strategy.extended.should_save_summary:
            if values or not epoch:
                for old in tf.io.gfile.glob(os.path.join(self._folder, "events.out.tfevents.*")):
                    tf.io.gfile.remove(old)
            self._writer = tf.summary.create_file_writer(self._folder)
            for number, rows in zip(self._epochs, self._rows, strict=True):
                self._write(number, rows)

    def state(self) -> dict[str, np.ndarray]:
        """Returns all that was noted, {name: array}."""
        return {
            "updates": self._updates,
            "epochs": self._epochs,
            "rows": self._rows,
            "least": self._least,
            **{f"bits{i}": bits for i, bits in enumerate(self._bits)},
        }

    def update(self, held: masks.Masks, *, step: int, scheduled: float, reached: float) -> None:
        """Notes an update of the masks."""
        self._updates = np.vstack([self._updates, (step, scheduled, reached)])
        self._least = np.array([_least(x, held[x.name]) for x in self._training.plan.kernels])

    def epoch(self, epoch: int) -> None:
        """Notes the end of an epoch."""
        before, self._bits = self._bits, self._now()
        pairs = list(zip(before, self._bits, strict=True))
        columns = (
            1 - np.array([_count(now) for now in self._bits]) / self._sizes,
            self._thresholds(),
            [_count(was & ~now) for was, now in pairs] / self._sizes,
            [_count(now & ~was) for was, now in pairs] / self._sizes,
        )
        rows = np.stack(columns, axis=1).astype(np.float32)
        self._epochs = np.append(self._epochs, epoch)
        self._rows = np.concatenate([self._rows, rows[None]])
        if self._writer:
            self._write(epoch, rows)

    def end(self) -> None:
        """Notes the masks as they stay."""
        self._final = self._now()
        if self._writer:
            self._writer.close()

    def history(self) -> "pd.DataFrame":
        """Returns the updates of the masks: step, scheduled, reached."""
        import pandas as pd

        table = pd.DataFrame(self._updates, columns=["step", "scheduled", "reached"])
        return table.astype({"step": int})

    def by_epoch(self) -> "pd.DataFrame":
        """Returns a row an epoch and kernel: epoch, name, weights, and what is noted of it."""
        import pandas as pd

        count = len(self._sizes)
        names = [kernel.name for kernel in self._training.plan.kernels]
        head = {
            "epoch": np.repeat(self._epochs, count),
            "name": names * len(self._epochs),
            "weights": np.tile(self._sizes, len(self._epochs)),
        }
        values = self._rows.reshape(-1, len(_FIELDS)).astype(np.float64)
        return pd.DataFrame(head | dict(zip(_FIELDS, values.T, strict=True)))

    def summary(self) -> "pd.DataFrame":
        """Returns a row a kernel as it is now, and one for each that is left out."""
        import pandas as pd

        plan, bits = self._training.plan, self._final or self._now()
        last = self._rows[-1] if len(self._rows) else np.full(self._rows.shape[1:], np.nan)
        rows = [
            {
                "name": kernel.name,
                "shape": tuple(kernel.variable.shape),
                "weights": kernel.size,
                "kept": _count(mask),
                "sparsity": 1 - _count(mask) / kernel.size,
                "threshold": threshold,
                "churn": float(pruned + regrown),
                "skipped": "",
            }
            for kernel, mask, threshold, (_, _, pruned, regrown) in zip(
                plan.kernels, bits, self._thresholds(), last, strict=True
            )
        ]
        variables = k.named(plan.model)
        for entry in plan.skipped:
            row = {"name": entry.name, "skipped": entry.reason}
            if entry.name in variables:  # else it is a group of channels
                shape = tuple(variables[entry.name].shape)
                row |= {"shape": shape, "weights": math.prod(shape)}
            rows.append(row)
        return pd.DataFrame(rows).astype({"weights": "Int64", "kept": "Int64"})

    def _now(self) -> list[np.ndarray]:
        """Returns the masks as bits."""
        present = self._training.present()
        return [np.packbits(present[kernel.name]) for kernel in self._training.plan.kernels]

    def _thresholds(self) -> np.ndarray:
        """Returns what each method compares with, else what the last update left."""
        taps = self._training.taps
        memories = [
            taps[x.name].memory if x.name in taps else {} for x in self._training.plan.kernels
        ]
        own = [memory.get("threshold") for memory in memories]
        found = [
            least if variable is None else float(keras.ops.convert_to_numpy(variable))
            for variable, least in zip(own, self._least, strict=True)
        ]
        return np.nan_to_num(found, neginf=0.0)  # that of a score, before the first update

    def _write(self, epoch: int, rows: np.ndarray) -> None:
        """Writes the points of an epoch."""
        with self._writer.as_default(step=int(epoch)):
            for kernel, row in zip(self._training.plan.kernels, rows, strict=True):
                values = dict(zip(_FIELDS, row, strict=True))
                tf.summary.scalar(f"sparsity/{kernel.name}", values["sparsity"])
                tf.summary.scalar(f"threshold/{kernel.name}", values["threshold"])
                tf.summary.scalar(f"churn/{kernel.name}", values["pruned"] + values["regrown"])
        self._writer.flush()


def _count(bits: np.ndarray) -> int:
    return int(np.count_nonzero(np.unpackbits(bits)))


def _least(kernel: k.Kernel, mask: np.ndarray) -> float:
    """Returns the smallest magnitude that is there, 0 if nothing is pruned or nothing is left."""
    if mask.all():
        return 0.0
    size = np.abs(keras.ops.convert_to_numpy(kernel.variable)).astype(np.float32)
    least = float(np.min(size, where=size > 0, initial=np.inf))
    return least if math.isfinite(least) else 0.0
