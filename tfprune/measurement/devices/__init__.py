"""Where files are run: a file a kind of device, and one interface.

A device carries out the request in a folder. The folder holds `request.json`, what it names, and
the worker that answers it (see `_worker`); afterwards it holds `result.json` and the outputs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

from tfprune import registry

WORKER = Path(__file__).with_name("_worker.py")


class Device(Protocol):
    """A place to run files. Each module here defines one as `Device(address, **options)`.

    Attributes:
      name: as the user gave it: "local", "ssh:pi@board".
      emulated: whether its times are an emulator's, which say little of a real device's.
      samples: how many samples are run on it unless the caller says so; None for all.
    """

    name: str
    emulated: bool
    samples: int | None

    def check(self) -> None:
        """Makes sure that the device answers.

        Raises:
          OSError: if it does not, naming it and the remedy.
        """

    def answer(self, folder: Path, *, timeout: float) -> None:
        """Carries out the request in `folder`, whose result then is in it.

        Args:
          folder: holds all that the request names; symbolic links stand for large files.
          timeout: seconds without progress after which the run counts as hung and is ended.

        Raises:
          Failed: if the run gave no result: a crash, a hang, with its last words.
          OSError: if the device itself is at fault: away, full, or it refuses.
        """


class Failed(Exception):
    """Why a file that was run gave no result."""


def get(spec: str | Device, **options: object) -> Device:
    """Returns the device that `spec` names.

    Args:
      spec: `local`, `arm64`, `nehalem`, `ssh:user@host`, `adb:serial`, or a device.
      **options: of all kinds of device; each gets those that it declares. None counts as not given.

    Raises:
      ValueError: for an unknown kind, or an address or option it doesn't take.
    """
    if not isinstance(spec, str):
        return spec
    kind, _, address = spec.partition(":")
    made = registry.module(__name__, "device", kind).Device
    declared = {field.name for field in dataclasses.fields(made) if field.init} - {"address"}
    given = {k: v for k, v in options.items() if k in declared and v is not None}
    return made(address, **given)
