"""qemu-user: runs programs of another processor, system calls go to this machine's kernel."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tfprune.measurement.devices import _sandbox

_MACHINES = ("aarch64", "x86_64")


def emulator(machine: str) -> str:
    """Returns the path of qemu's emulator for programs of a `machine`: aarch64 or x86_64.

    Where it is not installed, Debian's is unpacked in the user's cache.

    Raises:
      OSError: if there is none to be had.
    """
    if sys.platform != "linux":
        raise OSError("qemu-user, which it needs, is there on Linux only")
    for name in (f"qemu-{machine}", f"qemu-{machine}-static"):
        if found := shutil.which(name):
            return found
    try:
        return str(_sandbox.built("qemu-user", _from_debian) / f"qemu-{machine}")
    except OSError as error:
        raise OSError(
            f"qemu-{machine} is not installed: run  apt-get install qemu-user  ({error})"
        ) from error


def _from_debian(folder: Path) -> None:
    # Up to Debian 12 qemu-user needs libraries, this one none; later it is a link to that one.
    tree = folder / "tree"
    _sandbox.unpack(["qemu-user-static"], tree)
    for machine in _MACHINES:
        shutil.copy2(tree / f"usr/bin/qemu-{machine}-static", folder / f"qemu-{machine}")
    shutil.rmtree(tree)
