"""Sizes of files, compared with the gzip module."""

import gzip

import numpy as np
import pytest

from tfprune.measurement import size


@pytest.mark.parametrize("count", [0, 1, 1_200_000])
def test_sizes_are_those_of_the_gzip_module(tmp_path, count):
    content = np.random.default_rng(0).integers(0, 4, count, dtype="uint8").tobytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    packed = gzip.compress(content, compresslevel=9, mtime=0)
    assert size.file_size(path) == {"bytes": count, "gzip_bytes": len(packed)}


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        size.file_size(tmp_path / "none")
