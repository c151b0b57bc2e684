"""Files are read and written whole; what is no file is said to be none."""

import numpy as np
import pytest

from tests.tflite.files import cnn, content, outputs, samples
from tfprune.tflite import flatbuffer


@pytest.fixture(scope="module")
def file():
    model = cnn()
    x = samples(model, 5)
    return content(model, x, "float32"), x


def test_a_file_written_anew_computes_the_same(file):
    made, x = file
    again = flatbuffer.write(flatbuffer.read(made))
    np.testing.assert_array_equal(outputs(again, x), outputs(made, x))
    assert flatbuffer.write(flatbuffer.read(again)) == again


def test_constants_are_aligned(file):
    """Kernels of the runtime read 16 bytes at a time."""
    from ai_edge_litert import schema_py_generated as schema

    made = flatbuffer.write(flatbuffer.read(file[0]))
    model, start = schema.Model.GetRootAs(made, 0), np.frombuffer(made, np.uint8).ctypes.data
    found = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    offsets = [part.ctypes.data - start for part in found if isinstance(part, np.ndarray)]
    assert len(offsets) > 5
    assert not any(offset % 16 for offset in offsets)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: b"", "is empty"),
        (lambda made: b"PK\3\4" * 100, "no TFLite file"),
        (lambda made: made[:200], "damaged or cut short"),
        (lambda made: made[: len(made) // 2], "damaged or cut short"),
        (lambda made: made[:-40], "damaged or cut short"),
        (lambda made: made[:8] + bytes(len(made) - 8), "damaged"),
    ],
)
def test_what_is_no_file_is_said(file, tmp_path, change, said):
    path = tmp_path / "some.tflite"
    path.write_bytes(change(file[0]))
    with pytest.raises(ValueError, match=rf"some\.tflite.*{said}"):
        flatbuffer.read(path)
    with pytest.raises(ValueError, match=f"the file {said}|the file is {said}"):
        flatbuffer.read(path.read_bytes())
