"""Size of a file, as stored and as downloaded."""

import os
import zlib
from pathlib import Path

_CHUNK = 1 << 20


def file_size(path: str | os.PathLike) -> dict[str, int]:
    """Returns `bytes` and `gzip_bytes` (level 9, no name, no time) of the file at `path`.

    The gzip size depends on the contents alone, so it can be compared between runs.

    Raises:
      OSError: if the file can't be read.
    """
    gzip = zlib.compressobj(level=9, wbits=16 + zlib.MAX_WBITS)
    packed = 0
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            packed += len(gzip.compress(chunk))
    return {"bytes": Path(path).stat().st_size, "gzip_bytes": packed + len(gzip.flush())}
