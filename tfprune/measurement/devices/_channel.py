"""The near end of a connection to `_agent`: sends it a request, stores what it answers."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tfprune.measurement.devices import _agent

_SCRIPT = Path(_agent.__file__).read_bytes()
# How long silence may last beyond the worker's own time, and how long an end may take.
_SILENCE, _END = 20.0, 10.0
_CHUNK = 1 << 16
_MOST_BYTES = 4 << 30


def start(python: str) -> str:
    """Returns the shell command that starts the agent there, with the interpreter `python`."""
    return shlex.join([python, "-c", f"import sys; exec(sys.stdin.buffer.read({len(_SCRIPT)}))"])


class Channel:
    """A process whose stdin and stdout are those of an agent, ended if it is silent.

    Attributes:
      process: the process.
      silence: seconds without a sign of life after which the connection counts as lost.
      stalled: whether that happened.
    """

    def __init__(self, process: subprocess.Popen, *, timeout: float) -> None:
        self.process, self.silence, self.stalled = process, timeout + _SILENCE, False
        self._timeout = timeout
        self._heard = time.monotonic()
        self._done = threading.Event()

    def ask(self, command: Sequence[str], folder: Path) -> dict | None:
        """Runs a Python command there on the files in `folder`, in which then is what it made.

        Returns:
          the agent's report (see there); None if the connection ended before it was complete.
        """
        files = sorted(path for path in folder.iterdir() if path.is_file())
        request = {
            "command": list(command),
            "timeout": self._timeout,
            "files": [[path.name, path.stat().st_size] for path in files],
        }
        with self._fed(_SCRIPT + json.dumps(request).encode() + b"\n", files):
            report = self._report()
            if report is None or not self._receive(report.get("files", ()), folder):
                return None
        return report

    @contextlib.contextmanager
    def _fed(self, first: bytes, files: Sequence[Path]) -> Iterator[None]:
        """Sends `first` and the files, and leaves stdin open for as long as the context lasts."""
        threading.Thread(target=self._feed, args=(first, files), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            yield
        finally:
            # Stdin closes, on which the agent cleans up and goes.
            self._done.set()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_END)
            finally:
                self.process.kill()
                self.process.wait()
                self.process.stdout.close()

    def _feed(self, first: bytes, files: Sequence[Path]) -> None:
        # What goes wrong with the connection is for the reader to tell.
        with contextlib.suppress(OSError), self.process.stdin as pipe:
            pipe.write(first)
            for path in files:
                with path.open("rb") as file:
                    while not self._done.is_set() and (chunk := file.read(_CHUNK)):
                        pipe.write(chunk)
            pipe.flush()
            self._done.wait()

    def _watch(self) -> None:
        while not self._done.wait(min(1.0, self.silence)):
            if time.monotonic() - self._heard > self.silence:
                self.stalled = True
                self.process.kill()
                return

    def _report(self) -> dict | None:
        while line := self._read(self.process.stdout.readline, _CHUNK):
            if line.startswith(_agent.MARK):
                with contextlib.suppress(ValueError, TypeError):
                    return dict(json.loads(line[len(_agent.MARK) :]))
                return None
        return None

    def _receive(self, listed: Sequence, folder: Path) -> bool:
        """Stores the files that a report lists; returns whether they are whole and expected."""
        if sum(size for _, size in listed) > _MOST_BYTES:
            return False
        for name, size in listed:
            if not _agent.EXPECTED.fullmatch(name):
                return False
            left = size
            with (folder / name).open("wb") as file:
                while left > 0:
                    chunk = self._read(self.process.stdout.read1, min(left, _CHUNK))
                    if not chunk:
                        return False
                    left -= file.write(chunk)
        return True

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        got = read(size)
        self._heard = time.monotonic()
        return got
