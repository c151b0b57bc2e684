"""The directory of a benchmark: what is in it is done, and no two write to it at once.

baselines/<id>/     dense networks: model.keras, float32.tflite, baseline.json
runs/<id>/          a trial: record.json
set_aside/          records that could not be read, which are made anew
"""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

from tfprune.evaluation import records
from tfprune.evaluation.settings import Pair, Trial
from tfprune.evaluation.trial import Baseline, Record


class Store:
    """Reads and writes the directory of a benchmark.

    Args:
      directory: where it is; made if need be.
      retry_failed: whether a trial that failed is none that is done.

    Attributes:
      set_aside: (what it was, why) of each record that was moved away.

    Raises:
      OSError: if it can't be used.
    """

    def __init__(self, directory: str | os.PathLike, *, retry_failed: bool = False) -> None:
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._retry = retry_failed
        self.set_aside: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps others from writing to the directory; the system lets go when a process ends.

        Raises:
          OSError: if another process has it.
        """
        import filelock

        lock = filelock.FileLock(self.directory / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise OSError(
                f"another benchmark writes to {self.directory}: let it end, or choose another "
                "directory"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def record(self, trial: Trial) -> Record | None:
        """Returns the record of a trial that is done, None if it has to be run.

        What can't be read is moved to `set_aside/`.
        """
        path = self._of(trial.id)
        if not path.exists():
            return None
        try:
            record = records.read(path)
            return None if record["status"] == "failed" and self._retry else record
        except ValueError as error:
            self._set_aside(path.parent, trial.id, str(error))
            return None

    def finish(self, record: Record) -> None:
        """Writes the record of a trial."""
        path = self._of(record["run_id"])
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(record, path)

    def baseline(self, pair: Pair) -> Baseline | None:
        """Returns the dense network of a pair, None if it has to be made."""
        folder = self.directory / "baselines" / pair.id
        if not (folder / "baseline.json").exists():
            return None
        try:
            said = json.loads((folder / "baseline.json").read_text())
            files = (folder / name for name in ("model.keras", "float32.tflite"))
            return Baseline(*(file.read_bytes() for file in files), said)
        except (OSError, ValueError) as error:
            self._set_aside(folder, f"baseline-{pair.id}", str(error))
            return None

    def keep(self, pair: Pair, baseline: Baseline) -> None:
        """Writes the dense network of a pair; the JSON file, written last, says it is whole."""
        folder = self.directory / "baselines" / pair.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.keras").write_bytes(baseline.keras)
        (folder / "float32.tflite").write_bytes(baseline.tflite)
        records.write(baseline.record, folder / "baseline.json")

    def _of(self, trial_id: str) -> pathlib.Path:
        return self.directory / "runs" / trial_id / "record.json"

    def _set_aside(self, folder: pathlib.Path, name: str, reason: str) -> None:
        aside = self.directory / "set_aside"
        aside.mkdir(exist_ok=True)
        taken = sum(1 for path in aside.iterdir() if path.name.startswith(name))
        shutil.move(folder, aside / f"{name}-{taken + 1}")
        self.set_aside.append((f"{folder} is now in {aside}", reason))
