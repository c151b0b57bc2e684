"""A folder of images, one folder a class."""

import concurrent.futures
import functools
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from tfprune.data import examples as examples_lib
from tfprune.data.examples import Examples, Source

if TYPE_CHECKING:
    import tensorflow as tf

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_VALIDATION = ("validation", "val", "valid")

Listing = tuple[np.ndarray, np.ndarray]  # file names and labels


def read(
    path: pathlib.Path, *, validation: float, image_size: tuple[int, int] | None = None
) -> Source:
    """Returns the images under `path`, as class/*.png or as train, validation, test/class/*.png.

    Images are RGB, or of one channel if all of them are grey. Classes are in alphabetical order.

    Raises:
      ValueError: for empty classes, for classes that training lacks, for unreadable images, and
        for images of several sizes without an `image_size`.
    """
    has_splits = (path / "train").is_dir()
    root = path / "train" if has_splits else path
    names = tuple(p.name for p in _folders(root))
    if len(names) < 2:
        raise ValueError(
            f"{root} has {len(names)} class folders, at least two are needed: "
            "put images into class/ or train/class/"
        )
    listings = {"train": _listing(root, names)}
    if has_splits:
        folders = {"test": "test"} | dict.fromkeys(_VALIDATION, "validation")
        for folder, split in folders.items():
            if (path / folder).is_dir():
                listings[split] = _listing(path / folder, names)
    for split, fraction in (("test", examples_lib.TEST_FRACTION), ("validation", validation)):
        if split not in listings and fraction:
            files, labels = listings["train"]
            held = examples_lib.held_out(labels, fraction, name=str(path))
            listings["train"] = files[~held], labels[~held]
            listings[split] = files[held], labels[held]

    # In a fixed mixture of classes: the first thousand images are to be like the others.
    for split, (files, labels) in listings.items():
        order = np.random.default_rng(len(files)).permutation(len(files))
        listings[split] = files[order], labels[order]

    size, channels = _common_shape([file for files, _ in listings.values() for file in files])
    shape = (*(image_size or size or _refuse_sizes(path, listings["train"][0])), channels)
    found = {split: _examples(listing, shape) for split, listing in listings.items()}
    return Source(
        name=str(path),
        train=found["train"],
        validation=found.get("validation"),
        test=found["test"],
        class_names=names,
        input_shape=shape,
        low=0.0,
        high=255.0,
    )


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listing(root: pathlib.Path, names: tuple[str, ...]) -> Listing:
    """Returns the images under `root`, class by class, in the order of their names."""
    files, labels = [], []
    for folder in _folders(root):
        if folder.name not in names:
            raise ValueError(f"{folder} is a class without a folder under {root.parent / 'train'}")
        images = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in _ENDINGS)
        if not images:
            raise ValueError(f"no image in {folder}: add {', '.join(_ENDINGS)} files or remove it")
        files += images
        labels += [names.index(folder.name)] * len(images)
    if not files:
        raise ValueError(f"no class folders in {root}: add them or remove it")
    return np.array(files), np.array(labels, dtype=np.int64)


def _common_shape(files: list[str]) -> tuple[tuple[int, int] | None, int]:
    """Returns (height, width), or None if they differ, and the number of channels."""
    # Headers tell, and Pillow reads them without the pixels. It comes with matplotlib.
    from PIL import Image

    sizes, modes = set(), set()
    for file in files:
        try:
            with Image.open(file) as image:
                sizes.add(image.size[::-1])
                modes.add(image.mode)
        except OSError as error:
            raise ValueError(f"can't read image {file}: mend or remove it ({error})") from error
    return sizes.pop() if len(sizes) == 1 else None, 1 if modes <= {"1", "L"} else 3


def _refuse_sizes(path: pathlib.Path, files: np.ndarray) -> tuple[int, int]:
    raise ValueError(
        f"the images in {path} have several sizes: choose one with image_size "
        f"({len(files)} training images, such as {files[0]})"
    )


def _examples(listing: Listing, shape: tuple[int, int, int]) -> Examples:
    """Returns the images of a listing, in memory if they fit."""
    import tensorflow as tf

    files, labels = listing
    decode = functools.partial(_decode, shape=shape)
    if len(files) * int(np.prod(shape)) > examples_lib.MEMORY_LIMIT:
        stream = tf.data.Dataset.from_tensor_slices((files, labels))
        stream = stream.map(
            lambda file, label: (decode(file), label), num_parallel_calls=tf.data.AUTOTUNE
        )
        return Examples(None, None, stream, len(files))

    def load(file: str) -> np.ndarray:
        try:
            return decode(tf.constant(file)).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"can't decode image {file}: mend or remove it") from error

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return Examples.of_arrays(np.stack(list(pool.map(load, files.tolist()))), labels)


def _decode(file: "tf.Tensor", *, shape: tuple[int, int, int]) -> "tf.Tensor":
    """Returns the uint8 image (h, w, c) of `shape` in `file`."""
    import tensorflow as tf

    image = tf.io.decode_image(tf.io.read_file(file), expand_animations=False)
    # Grey is copied to all channels, alpha is dropped, whatever the format gave.
    last = tf.where(tf.shape(image)[-1] >= 3, 2, 0)
    image = tf.gather(image, tf.minimum(tf.range(shape[-1]), last), axis=-1)
    image = examples_lib.resize(image, shape[:2])
    return tf.ensure_shape(image, shape)
