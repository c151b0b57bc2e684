"""What a file says of itself, read by what others wrote, and by the numbers of its schema."""

import io
import json
import zipfile

import flatbuffers
import numpy as np
import pytest

from tests.tflite.files import cnn, content, outputs, samples
from tfprune.tflite import flatbuffer, metadata

LABELS = [f"class {i}" for i in range(40)]
ABOUT = metadata.Metadata(
    name="net", labels=LABELS, mean=(1.5, 2.5, 3.5), std=(60.0, 61.0, 62.0), notes={"a": [1, "é"]}
)


@pytest.fixture(scope="module")
def file():
    model = cnn()
    x = samples(model, 5)
    return content(model, x, "float32_sparse"), x


def entries(made):
    model = flatbuffer.read(made)
    return {e.name.decode(): bytes(model.buffers[e.buffer].data) for e in model.metadata}


def field(table, slot, kind):
    """Returns a field of a FlatBuffer table: a table, a vector of tables, a string or a number."""
    place = table.Offset(4 + 2 * slot)
    assert place, f"there is no field {slot}"
    if kind == "text":
        return table.String(place + table.Pos).decode()
    if kind == "table":
        return flatbuffers.table.Table(table.Bytes, table.Indirect(place + table.Pos))
    if kind == "tables":
        start = table.Vector(place)
        return [
            flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * i))
            for i in range(table.VectorLen(place))
        ]
    if kind == "floats":
        return table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, place)
    return table.Get(getattr(flatbuffers.number_types, f"{kind}Flags"), place + table.Pos)


def test_the_file_computes_the_same_and_is_an_archive_of_its_labels(file):
    made = metadata.add(file[0], ABOUT)
    np.testing.assert_array_equal(outputs(made, file[1]), outputs(*file))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().split("\n") == LABELS


def test_normalisation_image_and_labels_are_where_the_schema_puts_them(file):
    """Slots as in metadata_schema.fbs of TFLite Support: ModelMetadata, SubGraphMetadata, ..."""
    content = entries(metadata.add(file[0], ABOUT))["TFLITE_METADATA"]
    assert content[4:8] == b"M001"
    start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, content, 0)
    root = flatbuffers.table.Table(content, start)
    assert field(root, 0, "text") == "net"
    (graph,) = field(root, 3, "tables")
    (given,), (returned,) = field(graph, 2, "tables"), field(graph, 3, "tables")
    image = field(given, 3, "table")
    assert field(image, 0, "Uint8") == 2  # ContentProperties.ImageProperties
    properties = field(image, 1, "table")
    assert field(properties, 0, "Int8") == 1  # ColorSpaceType.RGB
    assert field(field(properties, 1, "table"), 0, "Uint32") == 10  # width
    (unit,) = field(given, 4, "tables")
    assert field(unit, 0, "Uint8") == 1  # ProcessUnitOptions.NormalizationOptions
    np.testing.assert_allclose(field(field(unit, 1, "table"), 0, "floats"), ABOUT.mean)
    np.testing.assert_allclose(field(field(unit, 1, "table"), 1, "floats"), ABOUT.std)
    (labels,) = field(returned, 6, "tables")
    assert field(labels, 0, "text") == "labels.txt"
    assert field(labels, 2, "Int8") == 2  # AssociatedFileType.TENSOR_AXIS_LABELS


def test_notes_come_back_and_are_replaced(file):
    made = metadata.add(file[0], ABOUT)
    assert metadata.notes(made) == {"a": [1, "é"]}
    assert json.loads(entries(made)["tfprune"]) == {"a": [1, "é"]}
    again = metadata.add(made, metadata.Metadata(notes={"b": 2}))
    assert metadata.notes(again) == {"b": 2}
    assert list(entries(again)).count("tfprune") == 1
    assert metadata.notes(file[0]) == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["one", "two"]}, "2 labels for 40 classes"),
        ({"labels": ["a\nb"] * 40}, "line break"),
        ({"mean": (1.0,)}, "1 means, 0 deviations"),
    ],
)
def test_what_does_not_fit_is_said(file, changes, said):
    with pytest.raises(ValueError, match=said):
        metadata.add(file[0], metadata.Metadata(**changes))


def test_the_same_file_twice_is_the_same(file):
    assert metadata.add(file[0], ABOUT) == metadata.add(file[0], ABOUT)
