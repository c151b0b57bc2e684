"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; what was written there is at `path` when the block ends well.

    Raises:
      OSError: if it can't be written.
    """
    path = Path(path)
    # A folder, because a temporary file may be read by its owner alone, and would stay so.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        partial = Path(folder, path.name)
        yield partial
        os.replace(partial, path)
