"""Answers a request at the other end of a connection: see `_channel` and `ssh`.

The text of this file is sent there and run, so it stands alone, on Python 3.8 and later.

stdin gives one line of JSON, {"command", "timeout", "files": [[name, bytes], ...]}, and what is in
the files, one after the other. It stays open for as long as somebody waits for the answer.
stdout gets lines that are signs of life, then one line of MARK and JSON, and what is in the files
that it lists: {"code" or "signal" or "hung", "words", "full", "files": [[name, bytes], ...]}, or
{"error", "full"}.

However it ends, short of a kill of this very process, the command and its folder are gone then.
"""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

MARK = b"tfprune-answer: "
EXPECTED = re.compile(r"result\.json|output_\d{1,4}\.npy")
_FULL = (errno.ENOSPC, errno.EDQUOT)
# With less than this free, what failed did so for lack of space: pages that can't be written end
# the program by SIGBUS, which doesn't tell.
_FREE = 1 << 16
_WORDS = 4000
_CHUNK = 1 << 16


def main() -> None:
    """Answers the request on stdin."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    # Ends whatever line a shell that starts up may have begun.
    tell(b"")
    request = json.loads(sys.stdin.buffer.readline() or b"null")
    if request is None:
        return
    try:
        with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
            for name, size in request["files"]:
                receive(os.path.join(folder, name), size)
            report = run(request["command"], folder, request["timeout"])
            report["full"] = shutil.disk_usage(folder).free < _FREE
            names = [name for name in sorted(os.listdir(folder)) if EXPECTED.fullmatch(name)]
            paths = [os.path.join(folder, name) for name in names if report.get("code") == 0]
            report["files"] = [[os.path.basename(p), os.path.getsize(p)] for p in paths]
            tell(MARK + json.dumps(report).encode())
            for path in paths:
                with open(path, "rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        tell(MARK + json.dumps({"error": str(error), "full": error.errno in _FULL}).encode())


def receive(path: str, size: int) -> None:
    """Writes the next `size` bytes of stdin to `path`."""
    told = time.monotonic()
    with open(path, "wb") as file:
        while size:
            chunk = sys.stdin.buffer.read(min(size, _CHUNK))
            if not chunk:
                sys.exit(1)
            file.write(chunk)
            size -= len(chunk)
            if time.monotonic() - told > 1:
                told = time.monotonic()
                tell(b"receiving")


def run(command: list, folder: str, timeout: float) -> dict:
    """Returns how a Python command ended, once it did, hung, or nobody waits for it any more."""
    errors = os.path.join(folder, "stderr")
    with open(errors, "wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - no shell
            [sys.executable, *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = wait(process, timeout)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    with open(errors, "rb") as file:
        file.seek(max(0, os.path.getsize(errors) - _WORDS))
        words = file.read().decode("utf-8", "replace")
    if code is None:
        return {"hung": True, "words": words}
    if code < 0:
        return {"signal": signal_name(-code), "words": words}
    return {"code": code, "words": words}


def wait(process: subprocess.Popen, timeout: float) -> int | None:
    """Returns the exit code, None if the process says nothing for `timeout` seconds."""
    while True:
        ready, _, _ = select.select([0, process.stdout], [], [], timeout)
        if not ready:
            return None
        if 0 in ready and not os.read(0, _CHUNK):
            sys.exit(1)
        if process.stdout in ready:
            if not os.read(process.stdout.fileno(), _CHUNK):
                break
            tell(b"running")
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None


def signal_name(number: int) -> str:
    """Returns the name of a signal of this system, whose numbers are its own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tell(line: bytes) -> None:
    """Writes a line to whoever waits."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
