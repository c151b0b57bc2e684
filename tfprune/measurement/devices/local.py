"""This machine: `local`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from tfprune.measurement.devices import _process


@dataclasses.dataclass(frozen=True)
class Device:
    """Runs files with the LiteRT that is installed here, each in a process of its own."""

    address: str = ""
    name: str = dataclasses.field(default="local", init=False)
    emulated: bool = dataclasses.field(default=False, init=False)
    samples: int | None = dataclasses.field(default=None, init=False)

    def __post_init__(self) -> None:
        _process.no_address(self)

    def check(self) -> None:
        """Does nothing: the machine is there."""

    def answer(self, folder: Path, *, timeout: float) -> None:
        """Carries out the request in `folder`: see `devices.Device`."""
        _process.run([sys.executable, "-P", "worker.py", "request.json"], folder, timeout=timeout)
