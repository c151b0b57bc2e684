"""`Checkpoint`: a training that is stopped anywhere goes on as if it had not been."""

import hashlib
import json
import logging
import os
import pathlib

import keras
import numpy as np

from tfprune.callbacks import moments, state

log = logging.getLogger("tfprune")

# Of the files; a change of what they hold is another number.
FORMAT = 1


class Checkpoint(keras.callbacks.Callback):
    """Saves all that a training is after every epoch, and goes on there when it is fitted again.

    Weights, the optimizer, masks and the place in the schedule, and the states of random layers
    are in one file; a small one beside it, which is written last, has its SHA-256. So a file that
    was not written whole, or was damaged since, is known as such: the one before is used. On a CPU
    with deterministic operations the end is then, bit for bit, that of a training that was never
    stopped, where batches depend on the epoch alone, as those of `tfprune.data` do:

      >>> checkpoint = tfprune.Checkpoint("run/checkpoints")
      >>> train = splits.shuffled(seed=0, first=checkpoint.epoch)
      >>> model.fit(train, epochs=50, callbacks=[tfprune.Pruner("sparsity:0.9"), checkpoint])

    It goes last. Of several workers the first writes, and all read. What EarlyStopping and
    ReduceLROnPlateau count is theirs, and begins anew.

    If the loss, or a weight, is no longer finite, the training is stopped, the model is set back to
    the last checkpoint, and `failure` says so. When a training ends by itself its checkpoints are
    removed.

    Args:
      directory: for its files alone.
      keep: how many checkpoints are there at a time, 1 or more.

    Attributes:
      failure: why the training was stopped, or an empty string.

    Raises:
      ValueError: when training begins, for a checkpoint of another model, optimizer or version.
    """

    async_safe = True

    def __init__(self, directory: str | os.PathLike[str], *, keep: int = 2) -> None:
        super().__init__()
        if keep < 1:
            raise ValueError(f"keep={keep}: one checkpoint or more is needed")
        self._directory, self._keep = pathlib.Path(directory), keep
        self.failure = ""

    @property
    def epoch(self) -> int:
        """The epoch at which the next fit goes on, 0 if there is no valid checkpoint."""
        found = self._newest()
        return found[1]["epoch"] if found else 0

    def set_model(self, model: keras.Model) -> None:
        """Has the file carry what callbacks remember, and the states of random layers."""
        super().set_model(model)
        state.join(self, model)

    def state(self) -> state.Values:
        """Returns nothing: all that is saved is of others."""
        return {}

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Restores the newest checkpoint that is whole."""
        del logs
        self.failure, self._stopped = "", False
        self._restore()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops a training whose loss is no longer finite."""
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            self._stop(f"the loss is {float(loss)} in step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the training, or sets it back."""
        del logs
        if not self._stopped and not _is_finite(self.model):
            self._stop("a weight is no longer finite")
        if self._stopped:
            found = self._restore()
            where = (
                f"the last good checkpoint, after epoch {found[1]['epoch']}, is {found[0]}"
                if found
                else "there is no checkpoint yet"
            )
            self.failure += f" of epoch {epoch + 1}: lower the learning rate; {where}"
            log.error("training was stopped: %s", self.failure)
            return
        if self._writes():
            self._save(epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Removes the checkpoints of a training that is done."""
        del logs
        self.model._initial_epoch = None  # else Keras begins the next fit there as well
        state.leave(self.model)
        if self._writes() and not self._stopped:
            for path in self._files("*"):
                path.unlink()
            if self._directory.is_dir() and not any(self._directory.iterdir()):
                self._directory.rmdir()

    def _writes(self) -> bool:
        """Returns whether this process is the one of several that writes."""
        return self.model.distribute_strategy.extended.should_checkpoint

    def _stop(self, reason: str) -> None:
        self._stopped = self.model.stop_training = True
        self.failure = reason

    def _save(self, epoch: int) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"epoch-{epoch:06d}.weights.h5"
        _whole(path, self.model.save_weights)
        note = {
            "format": FORMAT,
            "epoch": epoch,
            "iterations": moments.iterations(self.model),
            "sha256": _digest(path),
            "model": _fingerprint(self.model),
        }
        _whole(_note(path), lambda file: file.write_text(json.dumps(note)))
        for old in sorted(self._files("epoch-*.weights.h5"))[: -self._keep]:
            _note(old).unlink(missing_ok=True)
            old.unlink()

    def _restore(self) -> tuple[pathlib.Path, dict] | None:
        """Restores the newest valid checkpoint, and returns its file and what is known of it."""
        found = self._newest()
        if found is None:
            return None
        path, note = found
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if note.get("format") != FORMAT:
            raise ValueError(
                f"checkpoint {path} is of format {note.get('format')}, this version of tfprune "
                f"reads {FORMAT}: delete {self._directory} to begin anew, or use the version that "
                "wrote it"
            )
        if note["model"] != _fingerprint(self.model):
            raise ValueError(
                f"checkpoint {path} is of another model or optimizer: give another directory, or "
                f"delete {self._directory} to begin anew"
            )
        self.model.load_weights(path)
        self.model._initial_epoch = note["epoch"]
        return found

    def _newest(self) -> tuple[pathlib.Path, dict] | None:
        for path in sorted(self._files("epoch-*.weights.h5"), reverse=True):
            try:
                note = json.loads(_note(path).read_text())
                if note["sha256"] == _digest(path) and isinstance(note["epoch"], int):
                    return path, note
            except (OSError, ValueError, KeyError, TypeError):
                pass
            log.warning("checkpoint %s is damaged or not whole: it is passed over", path)
        return None

    def _files(self, pattern: str) -> list[pathlib.Path]:
        return [
            path
            for path in self._directory.glob(pattern)
            if path.name.lstrip(".").startswith(("epoch-", "partial-epoch-"))
        ]


def _whole(path: pathlib.Path, writer: object) -> None:
    """Has `writer` write a file, which appears whole, and on the disk, or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    writer(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _note(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name.replace(".weights.h5", ".json"))


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(model: keras.Model) -> str:
    """Returns a digest of the shapes of all that a model and its optimizer keep, in order."""
    kinds = [type(model.optimizer).__name__, *(type(x).__name__ for x in model.layers)]
    variables = [*model.weights, *model.optimizer.variables]
    shapes = [(tuple(v.shape), str(v.dtype)) for v in variables]
    return hashlib.sha256(repr((kinds, shapes)).encode()).hexdigest()


def _is_finite(model: keras.Model) -> bool:
    return all(bool(keras.ops.all(keras.ops.isfinite(w))) for w in model.weights)
