"""What an application needs to know of a file, inside the file.

Labels, the normalisation of inputs and a description are written as TFLite Metadata, which the task
libraries of Android, iOS and MediaPipe read: a FlatBuffer of its own schema in the buffer that the
model names TFLITE_METADATA, and the labels as a text file in a ZIP archive after the model's last
byte. How the model was pruned is written as JSON beside it, under the name `tfprune`.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import flatbuffers
import numpy as np

from tfprune.tflite import flatbuffer

_STANDARD, _OURS = "TFLITE_METADATA", "tfprune"
_IDENTIFIER = b"M001"
_LABELS = "labels.txt"
# Numbers of the metadata schema: which member of a union or an enumeration.
_NORMALISATION, _IMAGE, _AXIS_LABELS = 1, 2, 2
_COLOURS = {3: 1, 1: 2}  # channels: RGB, greyscale


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What is written into a file.

    Attributes:
      name: of the model.
      labels: of the classes, in the order of the only output's last axis.
      mean: subtracted from the values as stored, one a channel or one for all.
      std: by which they are divided then.
      notes: how the model was made: anything that JSON holds.
    """

    name: str = ""
    labels: Sequence[str] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    notes: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def check(self, classes: int | None = None) -> None:
        """Checks that the labels can be written, and are as many as there are `classes`.

        Raises:
          ValueError: saying what doesn't fit.
        """
        if any("\n" in label or "\r" in label for label in self.labels):
            raise ValueError("a label of the metadata holds a line break")
        if self.labels and classes is not None and len(self.labels) != classes:
            raise ValueError(f"the metadata has {len(self.labels)} labels for {classes} classes")
        if len(self.mean) != len(self.std):
            raise ValueError(f"the metadata has {len(self.mean)} means, {len(self.std)} deviations")


def add(content: bytes, metadata: Metadata) -> bytes:
    """Returns a .tflite file with `metadata` in it, in place of what it has of these kinds.

    Raises:
      ValueError: if the labels don't fit the file's output.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.read(content)
    graph = model.subgraphs[0]
    shapes = [
        [tuple(int(n) for n in graph.tensors[i].shape) for i in ends]
        for ends in (graph.inputs, graph.outputs)
    ]
    metadata.check(shapes[1][0][-1] if len(shapes[1]) == 1 and shapes[1][0] else None)
    entries = {
        _STANDARD: _standard(metadata, *shapes),
        _OURS: json.dumps(dict(metadata.notes)).encode(),
    }
    kept = [entry for entry in model.metadata or [] if entry.name.decode() not in entries]
    for name, text in entries.items():
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, flatbuffer.add_buffer(model, text)
        kept.append(entry)
    model.metadata = kept
    made = flatbuffer.write(model)
    if not metadata.labels:
        return made
    archive = io.BytesIO(made)
    with zipfile.ZipFile(archive, "a") as files:  # appended, as readers expect it
        # A fixed date: the same model makes the same file.
        files.writestr(zipfile.ZipInfo(_LABELS), "\n".join(metadata.labels))
    return archive.getvalue()


def notes(source: bytes | str | Path) -> dict[str, object]:
    """Returns what a file says of how it was made; nothing for files of others.

    Raises:
      ValueError: if it is no TFLite file.
      OSError: if it can't be read.
    """
    model = flatbuffer.read(source)
    for entry in model.metadata or []:
        if entry.name.decode() == _OURS:
            return json.loads(bytes(model.buffers[entry.buffer].data))
    return {}


def _standard(metadata: Metadata, inputs: list[tuple], outputs: list[tuple]) -> bytes:
    """Returns the FlatBuffer of TFLite Metadata; tables are numbered as in its schema."""
    build = flatbuffers.Builder(1024)

    def table(size: int, fields: Mapping[int, object]) -> int:
        # Whole numbers are enumerations of a byte, pairs are values with their writer.
        build.StartObject(size)
        for slot, (write, value) in fields.items():
            write(slot, value, 0)
        return build.EndObject()

    def offset(value: int) -> tuple:
        return build.PrependUOffsetTRelativeSlot, value

    def text(value: str) -> tuple:
        return offset(build.CreateString(value))

    def floats(values: Sequence[float]) -> tuple:
        return offset(build.CreateNumpyVector(np.asarray(values, np.float32)))

    def tables(values: Sequence[int]) -> tuple:
        build.StartVector(4, len(values), 4)
        for value in reversed(values):
            build.PrependUOffsetTRelative(value)
        return offset(build.EndVector())

    def tensor(shape: tuple, *, only: bool, result: bool) -> int:
        fields = {0: text("output" if result else "input")}
        if not result and only and metadata.mean:
            options = table(2, {0: floats(metadata.mean), 1: floats(metadata.std)})
            unit = table(2, {0: (build.PrependUint8Slot, _NORMALISATION), 1: offset(options)})
            fields[4] = tables([unit])
        if not result and len(shape) == 4 and shape[3] in _COLOURS:
            width = {0: (build.PrependUint32Slot, shape[2]), 1: (build.PrependUint32Slot, shape[1])}
            image = table(
                2, {0: (build.PrependInt8Slot, _COLOURS[shape[3]]), 1: offset(table(2, width))}
            )
            fields[3] = offset(table(3, {0: (build.PrependUint8Slot, _IMAGE), 1: offset(image)}))
        if result and only and metadata.labels:
            named = text(_LABELS)
            file = table(5, {0: named, 2: (build.PrependInt8Slot, _AXIS_LABELS)})
            fields[6] = tables([file])
        return table(7, fields)

    ends = [
        tables([tensor(shape, only=len(shapes) == 1, result=result) for shape in shapes])
        for result, shapes in enumerate((inputs, outputs))
    ]
    graph = tables([table(10, {2: ends[0], 3: ends[1]})])
    described = ", ".join(f"{key}: {value}" for key, value in metadata.notes.items())
    root = table(
        8,
        {0: text(metadata.name), 1: text(described), 3: graph, 7: text("1.0.0")},
    )
    build.Finish(root, _IDENTIFIER)
    return bytes(build.Output())
