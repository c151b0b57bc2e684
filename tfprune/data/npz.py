"""Arrays in a .npz file."""

import pathlib
import zipfile
import zlib

import numpy as np

from tfprune.data.examples import Examples, Source, resized


def read(path: pathlib.Path, *, image_size: tuple[int, int] | None = None) -> Source:
    """Returns the arrays x_train, y_train, and x_val, y_val, x_test, y_test where there are any.

    Images are (n, h, w) or (n, h, w, c), feature vectors (n, d); labels are whole numbers from 0,
    (n,) or (n, 1). The range of values is 0 to 255 for uint8, else that of the training images.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, lacks a key, or holds what can't be learnt from.
    """
    arrays = _arrays(path)
    if "x_train" not in arrays:
        raise ValueError(
            f"{path} has no x_train, only {', '.join(sorted(arrays)) or 'nothing'}: "
            "name its arrays x_train, y_train, x_test, y_test, and x_val, y_val if there are any"
        )
    splits = {}
    for split in ("train", "val", "test"):
        x, y = f"x_{split}", f"y_{split}"
        if (x in arrays) != (y in arrays):
            raise ValueError(f"{path} has one of {x} and {y}, not both")
        if x in arrays:
            labels = _labels(arrays[y], where=f"{path}, {y}")
            images = _images(arrays[x], where=f"{path}, {x}")
            if len(images) != len(labels):
                raise ValueError(f"{path}: {len(images)} in {x}, but {len(labels)} in {y}")
            splits[split] = Examples.of_arrays(
                resized(images, image_size, name=f"{path}, {x}"), labels
            )
    train = splits["train"]
    classes = _classes(train.labels, where=f"{path}, y_train")
    for split, examples in splits.items():
        if examples.images.shape[1:] != train.images.shape[1:]:
            raise ValueError(
                f"{path}: examples in x_{split} have shape {examples.images.shape[1:]}, "
                f"in x_train {train.images.shape[1:]}"
            )
        if examples.labels.max() >= classes:
            raise ValueError(
                f"{path}: y_{split} has label {examples.labels.max()}, y_train none above "
                f"{classes - 1}: a class that is not in training can't be learnt"
            )
    low, high = 0.0, 255.0
    if arrays["x_train"].dtype != np.uint8:
        low, high = float(train.images.min()), float(train.images.max())
    return Source(
        name=str(path),
        train=train,
        validation=splits.get("val"),
        test=splits.get("test"),
        class_names=tuple(str(label) for label in range(classes)),
        input_shape=train.images.shape[1:],
        low=low,
        high=high,
    )


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays in `path` by name."""
    if not path.is_file():
        raise FileNotFoundError(f"no data file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if key[:2] in ("x_", "y_")}
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): save or copy it again") from error
    except (ValueError, AttributeError, TypeError) as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{path} holds arrays of Python objects, which could run code on loading: "
                "save arrays of numbers, all images of one shape"
            ) from None
        raise ValueError(f"{path} is no .npz file: write it with numpy.savez_compressed") from error


def _images(array: np.ndarray, *, where: str) -> np.ndarray:
    """Returns images as uint8 or float32, with a channel axis."""
    if array.ndim not in (2, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"{where} has shape {array.shape}: give images (n, h, w) or (n, h, w, c), "
            "or feature vectors (n, d)"
        )
    if array.dtype.kind not in "buif":
        raise ValueError(f"{where} is of type {array.dtype}: give numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        first = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(axis=1)))
        raise ValueError(
            f"{where} has NaN or infinity, first in example {first}: remove or mend it"
        )
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
    return array[..., np.newaxis] if array.ndim == 3 else array


def _labels(array: np.ndarray, *, where: str) -> np.ndarray:
    """Returns labels as int64 of shape (n,)."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"{where} has shape {array.shape}: give one label an example, (n,); "
            "one-hot labels become such by .argmax(axis=1)"
        )
    if array.dtype.kind not in "buif" or not np.array_equal(array, np.floor(array)):
        raise ValueError(f"{where} is not whole numbers: number the classes from 0")
    if array.size and array.min() < 0:
        raise ValueError(f"{where} has label {array.min()}: number the classes from 0")
    return array.astype(np.int64)


def _classes(labels: np.ndarray, *, where: str) -> int:
    """Returns the number of classes, one more than the largest label."""
    classes, distinct = int(labels.max()) + 1, len(np.unique(labels))
    if distinct < 2:
        raise ValueError(f"{where} has one class only: there is nothing to tell apart")
    if classes > len(labels):
        raise ValueError(
            f"{where} has labels up to {classes - 1}, but {len(labels)} examples: "
            f"number its {distinct} classes 0 to {distinct - 1}"
        )
    return classes
