"""A machine that one can log in to, such as a Raspberry Pi or a server: `ssh:user@host`.

One connection of the system's OpenSSH client carries everything: a script (see `_agent`), the
request's files, signs of life, the answer. The script lives as long as the connection does and
leaves nothing there. What comes back is not trusted: only files of the expected names are taken.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tfprune.measurement import devices
from tfprune.measurement.devices import _process
from tfprune.measurement.devices._channel import Channel, start

# No part may begin with a dash, which ssh would take for an option.
_ADDRESS = re.compile(
    r"(?P<user>[a-z0-9_][\w.-]*@)?"
    r"(?:\[(?P<ipv6>[0-9a-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[a-z0-9_][\w.-]*))"
    r"(?::(?P<port>[1-9]\d{0,4}))?",
    re.ASCII | re.IGNORECASE,
)
# BatchMode: nobody is there to type a password. The rest keeps out what a user's own configuration
# may ask for when people log in.
_OPTIONS = (
    *("-T", "-a", "-x"),
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "RemoteCommand=none"),
)
_REMEDIES = (
    (
        "Permission denied|Too many authentication failures",
        "it refuses the key; to install yours, run  ssh-copy-id {target}",
    ),
    (
        "Host key verification failed",
        "its host key is unknown or has changed; log in once by hand:  ssh {target}",
    ),
    ("Could not resolve hostname", "there is no host of this name"),
    (
        "Connection refused|timed out|No route to host|Network is unreachable",
        "it can't be reached; is it on, and does sshd run there?",
    ),
)
_CHECK = (
    "import json, worker; result = {'status': 'ok', 'runtime': worker.find_runtime()[0]}; "
    "json.dump(result, open('result.json', 'w'))"
)
_CHECK_TIMEOUT = 120.0
_NO_PYTHON, _SSH_FAILED = 127, 255


@dataclasses.dataclass(frozen=True)
class Device:
    """Runs files on the machine at `address`: `[user@]host[:port]`, IPv6 hosts in brackets.

    Attributes:
      address: of the machine, or its name in the configuration of ssh.
      python: the interpreter there, which has NumPy and a LiteRT runtime: a command, or a path
        from the home folder, such as "venv/bin/python".
      config: a configuration file for ssh in place of the user's own, as by `ssh -F`.
    """

    address: str
    python: str = "python3"
    config: str | None = None
    emulated: bool = dataclasses.field(default=False, init=False)
    samples: int | None = dataclasses.field(default=1000, init=False)

    def __post_init__(self) -> None:
        found = _ADDRESS.fullmatch(self.address)
        if not found or int(found["port"] or 22) >= 1 << 16:
            raise ValueError(
                f"device {self.name!r}: write  ssh:user@host  or  ssh:user@host:port;  a machine "
                "that needs more gets a name in ~/.ssh/config"
            )

    @property
    def name(self) -> str:
        """As the user gave it."""
        return f"ssh:{self.address}"

    def check(self) -> None:
        """Connects, and makes sure of Python, NumPy and a runtime there: see `devices.Device`."""
        with tempfile.TemporaryDirectory(prefix="tfprune-") as name:
            folder = Path(name)
            (folder / "worker.py").write_bytes(devices.WORKER.read_bytes())
            try:
                self._run(["-c", _CHECK], folder, timeout=_CHECK_TIMEOUT)
            except devices.Failed as failure:
                raise OSError(
                    f"device {self.name!r} can't run files: {failure}; does its {self.python} have "
                    f"all it needs? There, run  {self.python} -m pip install numpy ai-edge-litert"
                ) from None

    def answer(self, folder: Path, *, timeout: float) -> None:
        """Carries out the request in `folder`: see `devices.Device`."""
        try:
            result = self._run(["worker.py", "request.json"], folder, timeout=timeout)
        except devices.Failed:
            # It may be the machine that lacks something, which is no fault of the file.
            self.check()
            raise
        if result["status"] != "ok":
            self.check()

    def _run(self, command: Sequence[str], folder: Path, *, timeout: float) -> dict:
        """Returns the result of a Python command that is run there, on the files in `folder`.

        Raises:
          Failed: if it gave none.
          OSError: if the connection fails, or there is no space there.
        """
        report = self._ask(command, folder, timeout=timeout)
        result = _read(folder / "result.json")
        (folder / "stderr").write_text(str(report.get("words", "")), encoding="utf-8")
        words = _process.last_lines(folder / "stderr")
        if report.get("full") and (result is None or result["status"] != "ok"):
            raise OSError(
                f"device {self.name!r} has no space left for temporary files: make some, or set "
                f"TMPDIR there to a folder on another disk{words}"
            )
        if "error" in report:
            raise OSError(f"device {self.name!r} can't store the request: {report['error']}")
        if report.get("hung"):
            raise devices.Failed(f"no progress for {timeout:g} s, so it was ended{words}")
        if "signal" in report:
            raise devices.Failed(f"the runtime crashed: killed by {report['signal']}{words}")
        if result is None:
            code = report.get("code")
            raise devices.Failed(f"the worker ended with code {code} and no result{words}")
        return result

    def _ask(self, command: Sequence[str], folder: Path, *, timeout: float) -> dict:
        """Returns the report of `_agent`, whose files then are in `folder`."""
        with tempfile.TemporaryFile() as errors:
            channel = Channel(self._connect(errors), timeout=timeout)
            report = channel.ask(command, folder)
            if report is None:
                errors.seek(0)
                (folder / "stderr").write_bytes(errors.read())
                words = _process.last_lines(folder / "stderr")
                raise OSError(f"device {self.name!r}: {self._trouble(channel, words)}{words}")
        return report

    def _connect(self, errors: IO[bytes]) -> subprocess.Popen:
        client = shutil.which("ssh")
        if client is None:
            raise OSError(f"device {self.name!r} needs the command  ssh;  install OpenSSH's client")
        config = ("-F", self.config) if self.config else ()
        port, destination = self._target()
        # The shell there would not expand a tilde that is quoted.
        command = start(self.python.removeprefix("~/"))
        return subprocess.Popen(  # noqa: S603 - no shell here; `command` is quoted for that there
            [client, *config, *_OPTIONS, *port, "--", destination, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for this process, which then ends the connection in good order.
            start_new_session=True,
        )

    def _target(self) -> tuple[tuple[str, ...], str]:
        """Returns the options and the destination that make up the address."""
        found = _ADDRESS.fullmatch(self.address)
        port = ("-p", found["port"]) if found["port"] else ()
        return port, (found["user"] or "") + (found["ipv6"] or found["host"])

    def _trouble(self, channel: Channel, words: str) -> str:
        """Returns why a connection brought no answer, and what to do."""
        code = channel.process.returncode
        if channel.stalled:
            return f"the connection was lost: nothing came for {channel.silence:g} s"
        if code == _NO_PYTHON:
            return f"there is no {self.python} there; the option python says which to use"
        if code == _SSH_FAILED:
            port, destination = self._target()
            for pattern, remedy in _REMEDIES:
                if re.search(pattern, words):
                    return remedy.format(target=shlex.join([*port, destination]))
        return f"the connection was lost, with code {code}"


def _read(file: Path) -> dict | None:
    """Returns a worker's result, None if it is absent or not one."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "status" in result else None
