"""An Android device, with Google's benchmark tool: `adb:serial`.

There is no Python to run the worker, so `benchmark_model` (see `_benchmark_model`), which the user
provides, takes its place: it times a file, profiles its operators, and, in versions that can, runs
it on samples and returns the outputs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import re
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path

from tfprune.measurement import devices
from tfprune.measurement.devices import _process
from tfprune.measurement.devices._adb import Phone
from tfprune.measurement.devices._android import Job

log = logging.getLogger("tfprune")

# Android lets its shell run programs from here.
_FOLDER = "/data/local/tmp"
# Exit codes of a shell that can't run a command, and what the loader of Android says.
_CANNOT_RUN = (126, 127)
_NOT_LINKED = "CANNOT LINK EXECUTABLE"
_SIGNALLED = 128


@dataclasses.dataclass(frozen=True)
class Device:
    """Runs files on the Android device with the serial number `address`, the only one if empty.

    Attributes:
      address: as `adb devices` shows it.
      benchmark_model: path of Google's tool, built for Android.
      adb: the command.
      taskset: mask of the processors to use, in hexadecimal: "f0" are four to seven.
    """

    address: str = ""
    benchmark_model: str = ""
    adb: str = "adb"
    taskset: str | None = None
    emulated: bool = dataclasses.field(default=False, init=False)
    # Each sample is a run of the tool.
    samples: int | None = dataclasses.field(default=4, init=False)

    def __post_init__(self) -> None:
        if self.address.startswith("-") or not self.address.isprintable():
            raise ValueError(f"device {self.name!r}: that is no serial number")
        if not self.benchmark_model:
            raise ValueError(
                f"device {self.name!r} needs the option benchmark_model: the path of Google's tool "
                "of this name, built for Android; see "
                "https://ai.google.dev/edge/litert/models/measurement"
            )
        if self.taskset is not None and not re.fullmatch("(0x)?[0-9a-fA-F]+", self.taskset):
            raise ValueError(f"taskset is a hexadecimal mask such as 'f0', not {self.taskset!r}")

    @property
    def name(self) -> str:
        """As the user gave it."""
        return f"adb:{self.address}"

    def check(self) -> None:
        """Makes sure of adb, the device, and the tool's file: see `devices.Device`."""
        self._phone()

    def answer(self, folder: Path, *, timeout: float) -> None:
        """Carries out the request in `folder`: see `devices.Device`."""
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        phone = self._phone()
        with self._private_folder(phone) as place:

            def push(file: Path) -> None:
                phone.push(file, f"{place}/{file.name}", timeout=timeout)

            def pull(file: Path) -> bool:
                """Moves a file of this name from there to here; returns whether there was one."""
                there = f"{place}/{file.name}"
                if phone.shell(f"test -e {shlex.quote(there)}")[0]:
                    return False
                phone.pull(there, file, timeout=timeout)
                phone.shell(f"rm {shlex.quote(there)}")
                return True

            def benchmark(flags: list[str], seconds: float) -> str:
                return self._benchmark(phone, place, folder, flags=flags, limit=timeout + seconds)

            phone.push(Path(self.benchmark_model), f"{place}/benchmark_model", timeout=timeout)
            phone.shell(f"chmod 700 {place}/benchmark_model")
            result = Job(folder, request, push=push, pull=pull, benchmark=benchmark).result()
            result["machine"] = phone.shell("uname -m")[1].strip()
        (folder / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")

    def _benchmark(
        self, phone: Phone, place: str, folder: Path, *, flags: list[str], limit: float
    ) -> str:
        """Returns what the tool prints.

        Raises:
          Failed: if it crashes, hangs or refuses the file.
          OSError: if the device can't run it.
        """
        pinned = ["taskset", self.taskset] if self.taskset else []
        command = shlex.join([*pinned, "./benchmark_model", *flags])
        # In the background, so that its process is known to whoever cleans up.
        script = (
            f"cd {place} && {{ {command} & echo $! > pid; "
            "wait $!; code=$?; rm -f pid; exit $code; }"
        )
        try:
            code, said = phone.shell(script, timeout=limit)
        except TimeoutError:
            raise devices.Failed(f"no end after {limit:g} s, so it was ended") from None
        (folder / "stderr").write_text(said, encoding="utf-8")
        words = _process.last_lines(folder / "stderr")
        if code in _CANNOT_RUN or _NOT_LINKED in said:
            _, abi = phone.shell("getprop ro.product.cpu.abi")
            raise OSError(
                f"device {self.name!r} can't run {self.benchmark_model!r}: take the tool that is "
                f"built for {abi.strip()}{words}"
            )
        if code > _SIGNALLED:
            died = _process.signal_name(code - _SIGNALLED)
            raise devices.Failed(f"the runtime crashed: killed by {died}{words}")
        if code:
            raise devices.Failed(f"benchmark_model ended with code {code}{words}")
        return said

    def _phone(self) -> Phone:
        if not Path(self.benchmark_model).is_file():
            raise FileNotFoundError(f"there is no benchmark_model at {self.benchmark_model!r}")
        return Phone(self.adb, self.address, name=self.name)

    @contextlib.contextmanager
    def _private_folder(self, phone: Phone) -> Iterator[str]:
        """Makes a folder on the device; in the end it is gone, and what runs from it."""
        place = f"{_FOLDER}/tfprune-{secrets.token_hex(8)}"
        try:
            code, said = phone.shell(f"umask 077; mkdir {place}")
            if code:
                raise OSError(f"device {self.name!r} has no room in {_FOLDER}: {said.strip()}")
            yield place
        finally:
            # The end of a connection does not end what was started over it.
            try:
                phone.shell(f"kill -9 $(cat {place}/pid) 2>/dev/null; rm -rf {place}")
            except OSError as error:
                log.warning("%s may be left behind on %s: %s", place, self.name, error)
