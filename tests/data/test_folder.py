"""Folders of images, written and read by independent means (Pillow, TensorFlow)."""

import numpy as np
import pytest
from PIL import Image

from tfprune import data
from tfprune.data import examples

RNG = np.random.default_rng(0)


def write(folder, count, *, shape=(6, 5, 3), ending="png", start=0):
    folder.mkdir(parents=True, exist_ok=True)
    images = RNG.integers(0, 256, (count, *shape), dtype=np.uint8)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{start + i:03}.{ending}")
    return images


def all_of(dataset):
    return tuple(np.concatenate(p) for p in zip(*dataset.as_numpy_iterator(), strict=True))


def pixels(images):
    return sorted(map(bytes, np.ascontiguousarray(images, dtype="float32")))


@pytest.mark.parametrize("limit", [examples.MEMORY_LIMIT, 1])
def test_class_folders(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(examples, "MEMORY_LIMIT", limit)
    written = {name: write(tmp_path / name, 20) for name in ("cat", "dog")}
    splits = data.load(tmp_path, preprocess="raw", batch_size=7)
    assert splits.class_names == ("cat", "dog")
    assert splits.sizes == {"train": 28, "validation": 4, "test": 8}
    parts = [all_of(d) for d in (splits.train, splits.validation, splits.test)]
    x, y = (np.concatenate(p) for p in zip(*parts, strict=True))
    for label, images in enumerate(written.values()):
        assert pixels(x[y == label]) == pixels(images)
    assert len(splits.train) == 4


def test_split_folders_are_kept(tmp_path):
    for split, count in (("train", 5), ("val", 3), ("test", 2)):
        for name in ("a", "b"):
            write(tmp_path / split / name, count)
    splits = data.load(tmp_path)
    assert splits.sizes == {"train": 10, "validation": 6, "test": 4}


def test_formats_and_channels(tmp_path):
    images = {ending: write(tmp_path / "a", 2, ending=ending) for ending in ("png", "bmp")}
    write(tmp_path / "a", 2, ending="jpg", start=9)
    grey = write(tmp_path / "b", 4, shape=(6, 5))
    splits = data.load(tmp_path, preprocess="raw", validation=0)
    x, y = (np.concatenate(p) for p in zip(all_of(splits.train), all_of(splits.test), strict=True))
    assert splits.input_shape == (6, 5, 3)
    assert pixels(x[y == 1]) == pixels(np.repeat(grey[..., np.newaxis], 3, axis=-1))
    assert {*pixels(np.concatenate([*images.values()]))} <= {*pixels(x[y == 0])}


def test_grey_folders_have_one_channel(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, 5, shape=(6, 5))
    assert data.load(tmp_path).input_shape == (6, 5, 1)


def test_several_sizes_need_image_size(tmp_path):
    write(tmp_path / "a", 5)
    write(tmp_path / "b", 5, shape=(8, 9, 3))
    with pytest.raises(ValueError, match="several sizes: choose one with image_size"):
        data.load(tmp_path)
    assert data.load(tmp_path, image_size=(4, 7)).input_shape == (4, 7, 3)


def test_damaged_images_are_named(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, 5)
    broken = tmp_path / "b" / "002.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"002\.png: mend or remove it"):
        data.load(tmp_path)
    broken.write_bytes(b"")
    with pytest.raises(ValueError, match=r"002\.png: mend or remove it"):
        data.load(tmp_path)


def test_wrong_folders_are_explained(tmp_path):
    with pytest.raises(ValueError, match="0 class folders"):
        data.load(tmp_path)
    write(tmp_path / "a", 3)
    (tmp_path / "b").mkdir()
    with pytest.raises(ValueError, match=r"no image in .*b"):
        data.load(tmp_path)
    write(tmp_path / "b", 3)
    (tmp_path / "notes.txt").write_text("not a folder")
    assert data.load(tmp_path).sizes["train"] > 0
    with pytest.raises(ValueError, match=r"notes\.txt is neither"):
        data.load(tmp_path / "notes.txt")


def test_classes_that_training_lacks(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / "train" / name, 4)
    write(tmp_path / "test" / "c", 4)
    with pytest.raises(ValueError, match=r"c is a class without a folder under .*train"):
        data.load(tmp_path)
