"""Image-classification data sets of TensorFlow Datasets."""

import difflib
import os
import socket
import urllib.request
from typing import TYPE_CHECKING

import numpy as np

from tfprune.data import examples as examples_lib
from tfprune.data.examples import Examples, Source

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds


def knows(name: str, data_dir: str | os.PathLike[str] | None) -> bool:
    """Returns whether `name` is a TFDS data set, by TFDS or prepared in `data_dir`."""
    import tensorflow_datasets as tfds

    if _base(name) in tfds.list_builders(with_community_datasets=False):
        return True
    try:
        tfds.builder(name, data_dir=data_dir)
    except Exception:  # TFDS raises anything from ValueError to its own for what is no name
        return False
    return True


def unknown(name: str, data_dir: str | os.PathLike[str] | None) -> ValueError:
    """Returns the error for a name that is no data set, file or folder."""
    import tensorflow_datasets as tfds

    if os.sep in name:
        return FileNotFoundError(f"no data set, .npz file or folder {name}")
    known = ["digits", *tfds.list_builders(with_community_datasets=False)]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return ValueError(
        f"unknown data set {name!r}.{hint} "
        "Known: digits, the data sets of TensorFlow Datasets, .npz files and folders of images"
    )


def read(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    validation: float,
    image_size: tuple[int, int] | None,
    download: bool,
) -> Source:
    """Returns a data set of TFDS, downloading it if it is not in `data_dir` and that is allowed.

    Raises:
      ValueError: if it can't be had, is not made of images with one label, or has images of
        several sizes and no `image_size` is given.
    """
    builder = _prepared(name, data_dir, download=download)
    image_key, label_key = _keys(name, builder.info)
    feature, labels = builder.info.features[image_key], builder.info.features[label_key]
    if None in feature.shape[:2] and image_size is None:
        raise ValueError(f"the images of {name} have several sizes: choose one with image_size")
    shape = (*(image_size or feature.shape[:2]), feature.shape[2] or 3)

    def split(part: str) -> Examples:
        return _examples(builder, part, keys=(image_key, label_key), shape=shape)

    held_out, test = _official(builder, label_key)
    train = "train"
    size = builder.info.splits["train"].num_examples
    # Splits in memory are divided class by class later; a stream is divided here, unread.
    if size * int(np.prod(shape)) > examples_lib.MEMORY_LIMIT:
        if test is None:
            size -= round(examples_lib.TEST_FRACTION * size)
            train, test = f"train[:{size}]", f"train[{size}:]"
        if held_out is None and validation:
            rest = size - max(1, round(validation * size))
            train, held_out = f"train[:{rest}]", f"train[{rest}:{size}]"
    return Source(
        name=name,
        train=split(train),
        validation=held_out and split(held_out),
        test=test and split(test),
        class_names=tuple(labels.names),
        input_shape=shape,
        low=0.0,
        high={"uint8": 255.0, "uint16": 65535.0}.get(feature.tf_dtype.name, 1.0),
    )


def _base(name: str) -> str:
    """Returns `name` without configuration and version."""
    return name.partition("/")[0].partition(":")[0]


def _prepared(
    name: str, data_dir: str | os.PathLike[str] | None, *, download: bool
) -> "tfds.core.DatasetBuilder":
    """Returns the builder of a data set that is on disk."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:
        raise ValueError(f"TensorFlow Datasets can't open {name!r}: {error}") from error
    if builder.is_prepared():
        return builder
    where = f"{name} is not prepared in {builder.data_dir}"
    remedy = (
        "point data_dir at a folder that holds it, "
        f"or run `tfds build {name}` on a machine with network access"
    )
    if not download:
        raise ValueError(f"{where}: {remedy}, or allow the download")
    if _offline():
        raise ValueError(f"{where}, and there is no network to download it: {remedy}")
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise ValueError(f"{where}, and preparing it failed ({error}): {remedy}") from error
    return builder


def _offline() -> bool:
    """Returns whether TFDS's own host is out of reach: TFDS itself tries for minutes."""
    if urllib.request.getproxies():
        return False
    try:
        socket.getaddrinfo("storage.googleapis.com", 443)
    except OSError:
        return True
    return False


def _keys(name: str, info: "tfds.core.DatasetInfo") -> tuple[str, str]:
    """Returns the names of the image and of the label in the features of a data set."""
    import tensorflow_datasets as tfds

    keys = info.supervised_keys
    if keys and len(keys) == 2 and all(isinstance(k, str) for k in keys):
        image, label = (info.features[key] for key in keys)
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            return keys
    raise ValueError(
        f"{name} is not a data set of images with one class label each: "
        f"it holds {', '.join(info.features)}"
    )


def _official(builder: "tfds.core.DatasetBuilder", label_key: str) -> tuple[str | None, str | None]:
    """Returns the names of the validation and of the test split, None where there is none."""
    if "train" not in builder.info.splits:
        raise ValueError(
            f"{builder.name} has no train split, only {', '.join(builder.info.splits) or 'nothing'}"
        )
    validation = "validation" if "validation" in builder.info.splits else None
    test = "test" if "test" in builder.info.splits else None
    if test:
        first = next(iter(builder.as_dataset(split="test").take(1)))
        # TFDS marks hidden labels with -1.
        if label_key not in first or int(first[label_key]) < 0:
            test = None
    return (validation, test) if test else (None, validation)


def _examples(
    builder: "tfds.core.DatasetBuilder",
    split: str,
    *,
    keys: tuple[str, str],
    shape: tuple[int, int, int],
) -> Examples:
    """Returns a split, in memory if it fits."""
    import tensorflow as tf

    def pair(example: dict[str, "tf.Tensor"]) -> tuple["tf.Tensor", "tf.Tensor"]:
        image = example[keys[0]]
        if image.dtype != tf.uint8:
            image = tf.cast(image, tf.float32)
        if image.shape[:2] != shape[:2]:
            image = examples_lib.resize(image, shape[:2])
        return tf.ensure_shape(image, shape), tf.cast(example[keys[1]], tf.int64)

    stream = builder.as_dataset(split=split, shuffle_files=False)
    stream = stream.map(pair, num_parallel_calls=tf.data.AUTOTUNE)
    size = builder.info.splits[split].num_examples
    dtype = stream.element_spec[0].dtype
    if size * int(np.prod(shape)) * dtype.size > examples_lib.MEMORY_LIMIT:
        return Examples(None, None, stream, size)
    images, labels = np.empty((size, *shape), dtype.as_numpy_dtype), np.empty(size, np.int64)
    start = 0
    for some_images, some_labels in stream.batch(1024).prefetch(2):
        stop = start + len(some_labels)
        images[start:stop], labels[start:stop] = some_images, some_labels
        start = stop
    return Examples.of_arrays(images, labels)
