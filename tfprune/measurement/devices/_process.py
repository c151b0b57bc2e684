"""A command that is watched: it may crash, hang or be interrupted, and its caller goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tfprune.measurement import devices

_CHATTER = ("INFO:", "W0000", "I0000", "WARNING: All log messages before")


def run(command: Sequence[str], folder: Path, *, timeout: float) -> None:
    """Runs a worker in `folder`, until its result is there.

    Raises:
      Failed: if it ended without one, or said nothing for `timeout` seconds and was ended.
    """
    said, errors = folder / "stdout", folder / "stderr"
    with said.open("wb") as stdout, errors.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - no shell
            list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
        try:
            code = _wait(process, said, timeout=timeout)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code is None:
        raise devices.Failed(f"no progress for {timeout:g} s, so it was ended{last_lines(errors)}")
    if code < 0:
        died = signal_name(-code)
        raise devices.Failed(f"the runtime crashed: killed by {died}{last_lines(errors)}")
    if code or not (folder / "result.json").is_file():
        raise devices.Failed(f"the worker ended with code {code} and no result{last_lines(errors)}")


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


def signal_name(number: int) -> str:
    """Returns the name of a signal, such as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_lines(errors: Path, *, count: int = 3) -> str:
    """Returns the last words in a file of error output, after a colon; nothing without any."""
    lines = errors.read_text(encoding="utf-8", errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.startswith(_CHATTER)]
    return f": {' | '.join(lines[-count:])}" if lines else ""


def cpus() -> int:
    """Returns how many processors this process may use."""
    # A container or taskset may allow fewer than there are; only Linux can tell.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def no_address(device: devices.Device) -> None:
    """Checks that a device was given no address.

    Raises:
      ValueError: if it was.
    """
    if device.address:
        raise ValueError(f"device {device.name!r} takes no address, got {device.address!r}")
