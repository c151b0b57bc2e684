"""Folders in the user's cache that hold programs for emulators, made when they are first needed."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger("tfprune")


def built(name: str, build: Callable[[Path], None]) -> Path:
    """Returns the folder `name` in the user's cache: whole, or not there at all.

    Of several processes that want it at once, one builds and the others wait.

    Args:
      name: of the folder.
      build: fills an empty folder, which then gets the name.

    Raises:
      OSError: if it can't be made.
    """
    import fcntl  # POSIX only, as emulators are

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "tfprune"
    place, partial = cache / name, cache / f"{name}.partial"
    if place.is_dir():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            # What a build left that was killed.
            shutil.rmtree(partial, ignore_errors=True)
            try:
                partial.mkdir()
                build(partial)
                partial.rename(place)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return place


def unpack(packages: Sequence[str], folder: Path, *, architecture: str | None = None) -> None:
    """Unpacks Debian packages and all that they depend on; nothing is installed.

    apt and its sources are the system's, its state is private. So this needs no rights, and
    `architecture` need not be one that dpkg was told of.

    Args:
      packages: names.
      folder: root of the tree that is made.
      architecture: Debian's name of one, this machine's by default.

    Raises:
      OSError: if there is no apt, or it can't get them.
    """
    get, extract = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if not get or not extract:
        raise FileNotFoundError(
            "it needs packages of Debian, and here are no apt-get and dpkg-deb to get them"
        )
    own = folder.with_name(f"{folder.name}.apt")
    archives = own / "cache" / "archives"
    for part in (own / "lists" / "partial", archives / "partial"):
        part.mkdir(parents=True)
    (own / "status").touch()
    # The system's hooks are for the system's lists.
    hooks = ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")
    (own / "conf").write_text("".join(f"#clear APT::Update::{hook};\n" for hook in hooks))
    options = {
        "Dir::State": own,
        "Dir::State::lists": own / "lists",
        "Dir::State::status": own / "status",
        "Dir::Cache": own / "cache",
        "Acquire::Languages": "none",
        # Run by root, apt would download as a user who can't enter root's cache.
        "APT::Sandbox::User": "root",
    }
    if architecture:
        options |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
    apt = [get, "--config-file", own / "conf", "--quiet"]
    apt += [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    wanted = f"{', '.join(packages)} for {architecture or 'this machine'}"
    log.info("downloading %s", wanted)
    what = f"apt can't get {wanted}"
    remedy = "is there a network, and do its sources hold Debian's packages?"
    call([*apt, "update"], what, remedy)
    fetch = ["--yes", "--download-only", "--no-install-recommends", "install"]
    call([*apt, *fetch, *packages], what, remedy)
    folder.mkdir()
    for archive in sorted(archives.glob("*.deb")):
        call([extract, "--extract", archive, folder], f"{archive.name} can't be unpacked")
    shutil.rmtree(own)


def call(command: Sequence[str | Path], what: str, remedy: str = "") -> None:
    """Runs a command, quietly.

    Raises:
      OSError: if it fails: `what` could not be done, the command's last words, and the `remedy`.
    """
    done = subprocess.run(  # noqa: S603 - no shell
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines()[-2:]
        said = " | ".join(line.strip() for line in lines) or f"exit code {done.returncode}"
        raise OSError(f"{what}: {said}" + (f" ({remedy})" if remedy else ""))
