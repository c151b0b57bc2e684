"""Android's `adb` command: which device is there, files to and from it, commands on it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NoReturn

# The exit code of `adb shell` is adb's own if that fails, and always 0 before Android 7.
_CODE = "tfprune-exit-code="
_ANSWER = 30.0
_BYTES_PER_SECOND = 1e6
_LINES = 3
_REMEDIES = {
    "unauthorized": "unlock it, and allow USB debugging when it asks",
    "offline": "plug it in again, or run  adb reconnect offline",
    "no permissions": "give this user access to it:  "
    "https://developer.android.com/studio/run/device",
}


class Phone:
    """A device that adb has a connection to.

    Raises:
      OSError: if there is no adb, or no device that is ready, with the remedy.
    """

    def __init__(self, adb: str, serial: str, *, name: str) -> None:
        self._adb, self._name = adb, name
        self._serial = self._choose(serial)

    def push(self, file: Path, place: str, *, timeout: float) -> None:
        """Copies a file there.

        Raises:
          OSError: if it can't be, with the reason.
        """
        file = file.resolve()
        timeout += file.stat().st_size / _BYTES_PER_SECOND
        self._copy("push", str(file), place, timeout=timeout)

    def pull(self, place: str, file: Path, *, timeout: float) -> None:
        """Copies a file from there: see `push`."""
        self._copy("pull", place, str(file.resolve()), timeout=timeout)

    def shell(self, script: str, *, timeout: float = _ANSWER) -> tuple[int, str]:
        """Returns the exit code of a shell script that is run there, and all that it printed.

        Raises:
          TimeoutError: if it takes longer.
          OSError: if the connection is lost.
        """
        script = f"({script}); code=$?; echo; echo {_CODE}$code"
        done = self._call("-s", self._serial, "shell", script, timeout=timeout)
        said, mark, code = done.stdout.rpartition(_CODE)
        if not mark or not code.strip().isdecimal():
            self._fail("the connection was lost", done)
        return int(code), f"{said}\n{done.stderr}"

    def _choose(self, serial: str) -> str:
        """Returns the serial number of the device to use, which is ready."""
        done = self._call("devices", timeout=_ANSWER)
        if done.returncode:
            self._fail("adb doesn't work", done)
        _, _, listed = done.stdout.partition("List of devices attached")
        states = dict(line.split("\t", 1) for line in listed.splitlines() if "\t" in line)
        known = ", ".join(states) or "none"
        if not serial and len(states) > 1:
            raise OSError(f"device {self._name!r}: there are several ({known}); write adb:SERIAL")
        if not states or (serial and serial not in states):
            raise OSError(
                f"device {self._name!r} is not connected (connected: {known}): plug it in, and "
                "switch on USB debugging in its developer options"
            )
        chosen = serial or next(iter(states))
        state = states[chosen].strip()
        if state != "device":
            hints = (remedy for start, remedy in _REMEDIES.items() if state.startswith(start))
            hint = next(hints, "see what  adb devices  says")
            raise OSError(f"device {self._name!r} is not ready, but {state!r}: {hint}")
        return chosen

    def _copy(self, *arguments: str, timeout: float) -> None:
        try:
            done = self._call("-s", self._serial, *arguments, timeout=timeout)
        except TimeoutError:
            raise OSError(
                f"device {self._name!r}: a file took more than {timeout:.0f} s to copy"
            ) from None
        if done.returncode:
            full = re.search("No space left|ENOSPC", done.stdout + done.stderr)
            self._fail("no space is left; make some in /data" if full else "copying failed", done)

    def _call(self, *arguments: str, timeout: float) -> subprocess.CompletedProcess:
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                [self._adb, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"device {self._name!r}: no answer to  adb {arguments[-1]}  for {timeout:.0f} s"
            ) from None
        except OSError as error:
            raise OSError(
                f"device {self._name!r} needs the command  {self._adb}  of Android's platform "
                f"tools: {error}"
            ) from None
        # Before Android 7 lines end as on a terminal.
        done.stdout = done.stdout.decode("utf-8", "replace").replace("\r", "")
        done.stderr = done.stderr.decode("utf-8", "replace").replace("\r", "")
        return done

    def _fail(self, what: str, done: subprocess.CompletedProcess) -> NoReturn:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines()]
        words = " | ".join([line for line in lines if line][-_LINES:])
        raise OSError(f"device {self._name!r}: {what}: {words}")
