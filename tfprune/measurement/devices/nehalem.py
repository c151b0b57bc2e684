"""This machine without AVX: `nehalem`.

On x86-64 XNNPACK runs sparse models only where there is no AVX. An emulated Nehalem, of 2008, has
none, so this machine's own Python and LiteRT take that path: the cheapest test of it.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
from pathlib import Path

from tfprune.measurement.devices import _process, _qemu


@dataclasses.dataclass(frozen=True)
class Device:
    """This machine's Python on an emulated processor."""

    address: str = ""
    name: str = dataclasses.field(default="nehalem", init=False)
    emulated: bool = dataclasses.field(default=True, init=False)
    samples: int | None = dataclasses.field(default=16, init=False)

    def __post_init__(self) -> None:
        _process.no_address(self)

    def check(self) -> None:
        """Makes sure that the emulator is there: see `devices.Device`."""
        self._emulator()

    def answer(self, folder: Path, *, timeout: float) -> None:
        """Carries out the request in `folder`: see `devices.Device`."""
        command = [self._emulator(), "-cpu", "Nehalem", sys.executable, "-P"]
        _process.run([*command, "worker.py", "request.json"], folder, timeout=timeout)

    def _emulator(self) -> str:
        if platform.machine() != "x86_64":
            raise OSError(
                f"device {self.name!r} is there on x86-64 Linux only, since it runs this "
                f"machine's own Python, which is for {platform.machine()}: use 'arm64' instead"
            )
        try:
            return _qemu.emulator("x86_64")
        except OSError as error:
            raise OSError(f"device {self.name!r} can't be set up: {error}") from error
