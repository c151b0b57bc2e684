"""Arm kernels without an Arm device: `arm64`.

qemu-user runs Debian's Python for arm64 with the aarch64 wheels of NumPy and of the LiteRT that is
installed here. They are downloaded once, about 55 MB, and kept in the user's cache (180 MB in
~/.cache/tfprune). Figures say whether a file loads, what it computes, and which of two files takes
fewer instructions; the milliseconds are no board's.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import logging
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from tfprune import registry
from tfprune.measurement.devices import _process, _qemu, _sandbox

log = logging.getLogger("tfprune")

_PACKAGES = ("libstdc++6", "python3-minimal", "libpython3-stdlib")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
# Main ID registers of qemu's models, which are those of Arm's manuals.
_CPUS = {
    "cortex-a35": 0x411FD040,
    "cortex-a53": 0x410FD034,
    "cortex-a57": 0x411FD070,
    "cortex-a72": 0x410FD083,
    "cortex-a76": 0x414FD0B1,
    "neoverse-n1": 0x414FD0C1,
}
_CORES = 4


@dataclasses.dataclass(frozen=True)
class Device:
    """An emulated Arm processor.

    Attributes:
      cpu: its model. A cortex-a76 multiplies float16 and has dot products of int8, which a
        cortex-a53 lacks, so the runtime takes other kernels there.
    """

    address: str = ""
    cpu: str = "cortex-a53"
    name: str = dataclasses.field(default="arm64", init=False)
    emulated: bool = dataclasses.field(default=True, init=False)
    samples: int | None = dataclasses.field(default=16, init=False)

    def __post_init__(self) -> None:
        _process.no_address(self)
        if self.cpu not in _CPUS:
            raise registry.unknown("CPU", self.cpu, _CPUS)

    def check(self) -> None:
        """Makes sure that the sandbox is there: see `devices.Device`."""
        self._sandbox()

    def answer(self, folder: Path, *, timeout: float) -> None:
        """Carries out the request in `folder`: see `devices.Device`."""
        command = _python(self._sandbox(), folder / "root", self.cpu)
        _process.run([*command, "worker.py", "request.json"], folder, timeout=timeout)

    def _sandbox(self) -> Path:
        try:
            _qemu.emulator("aarch64")
            version = importlib.metadata.version("ai-edge-litert")
            return _sandbox.built(f"arm64-{version}", functools.partial(_build, version=version))
        except OSError as error:
            raise OSError(f"device {self.name!r} can't be set up: {error}") from error


def _build(folder: Path, *, version: str) -> None:
    """Fills the sandbox: the root of an arm64 Debian with Python, NumPy and LiteRT."""
    log.info("building the sandbox of device 'arm64', once")
    tree = folder / "tree"
    _sandbox.unpack(_PACKAGES, tree, architecture="arm64")
    # Since Debian 13 all libraries are in /usr, and the link to there is no package's.
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    python = (tree / "usr/bin/python3").readlink().name
    wheels = folder / "wheels"
    packages = [f"ai-edge-litert=={version}", "numpy"]
    log.info("downloading %s (aarch64)", ", ".join(packages))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "--dest", wheels, "--implementation", "cp"]
    pip += ["--python-version", python.removeprefix("python")]
    pip += [part for name in _PLATFORMS for part in ("--platform", f"{name}_aarch64")]
    _sandbox.call(
        [*pip, *packages],
        f"pip can't get {' and '.join(packages)} for {python} on aarch64",
        "is there a network, and is pip installed?",
    )
    for wheel in sorted(wheels.glob("*.whl")):
        zipfile.ZipFile(wheel).extractall(tree / "usr/lib/python3/dist-packages")
    shutil.rmtree(wheels)
    with tempfile.TemporaryDirectory(prefix="tfprune-") as root:
        command = _python(folder, Path(root) / "root", "cortex-a53")
        trial = [*command, "-c", "import ai_edge_litert.interpreter"]
        _sandbox.call(trial, "LiteRT does not start in the sandbox")


def _python(sandbox: Path, root: Path, cpu: str) -> list[str]:
    """Returns the command that runs the sandbox's Python, which sees `root` as its file system.

    What is not in `root` is looked for in this machine's.
    """
    for part in ("lib", "usr"):
        (root / part).parent.mkdir(exist_ok=True)
        (root / part).symlink_to(sandbox / "tree" / part)
    # This machine's own processor, seen by Arm code, crashes the runtime when it starts.
    register = _CPUS[cpu]
    fields = {
        "CPU implementer": hex(register >> 24),
        "CPU architecture": "8",
        "CPU variant": hex(register >> 20 & 0xF),
        "CPU part": hex(register >> 4 & 0xFFF),
        "CPU revision": str(register & 0xF),
    }
    lines = "".join(f"{name}\t: {value}\n" for name, value in fields.items())
    cores = f"0-{_CORES - 1}\n"
    for path, text in {
        "proc/cpuinfo": "".join(f"processor\t: {i}\n{lines}\n" for i in range(_CORES)),
        "sys/devices/system/cpu/possible": cores,
        "sys/devices/system/cpu/present": cores,
        "sys/devices/system/cpu/kernel_max": "255\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    python = sandbox / "tree/usr/bin/python3"
    # -I: neither environment nor packages of this machine's Python.
    return [_qemu.emulator("aarch64"), "-L", str(root), "-cpu", cpu, str(python), "-I"]
