"""Data sets for image classification as reproducible tf.data pipelines."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfprune.data import augment as augmentations
from tfprune.data import digits, folder, npz, pipeline
from tfprune.data import preprocess as preprocessing
from tfprune.data import tfds as catalogue
from tfprune.data.examples import TEST_FRACTION, Examples, Source, drawn, holdout
from tfprune.data.preprocess import Preprocess

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["Preprocess", "Splits", "load"]


@dataclasses.dataclass(frozen=True)
class Splits:
    """A data set, ready for `fit` and `evaluate`.

    Every Dataset yields batches (images, labels): float32 of shape (n, *input_shape), images NHWC,
    and int64 of shape (n,). The last batch of a pass may be smaller.

    Attributes:
      name: as asked for.
      train: shuffled anew in every pass, and augmented.
      shuffled: seed -> `train` in an order of its own; from a later pass on with `first`, for a
        training that goes on at that epoch. The order of a stream, of more than fits in memory,
        begins anew.
      train_plain: the same examples in fixed order, as they are: for calibration of int8, for
        batch-normalization statistics, for scores.
      validation: held out of training; None if `load` was given `validation=0`.
      test: to be looked at once.
      classes: number of classes; labels are 0 to classes - 1.
      class_names: their names, in the order of the labels.
      input_shape: shape of one example.
      sizes: numbers of examples as {"train": ..., "validation": ..., "test": ...}.
      preprocess: what was done to the stored values; belongs into the metadata of exported files.
      calibration: (number of examples, seed) -> a draw from the training examples as they are, the
        same in every pass; all of them where there are no more.
    """

    name: str
    train: "tf.data.Dataset"
    shuffled: Callable[..., "tf.data.Dataset"]
    train_plain: "tf.data.Dataset"
    validation: "tf.data.Dataset | None"
    test: "tf.data.Dataset"
    classes: int
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    sizes: dict[str, int]
    preprocess: Preprocess
    calibration: Callable[[int, int], "tf.data.Dataset"]


def load(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    preprocess: str = "unit",
    batch_size: int = 128,
    augment: str = "none",
    validation: float = 0.1,
    image_size: int | tuple[int, int] | None = None,
    seed: int = 0,
    download: bool = True,
) -> Splits:
    """Returns the splits of a data set.

    The splits never depend on `seed`. Official ones are used as they are; where a test split is
    missing, or has no labels, the validation split is the test split, or a fifth is held out.
    The same arguments give the same batches, bit for bit, whatever the number of cores. Data sets
    of up to 2 GB as pixels are held in memory; larger ones are read anew in every pass.

    Args:
      name: `digits` (scikit-learn's, needs no download); an image-classification data set of
        TensorFlow Datasets, such as `cifar10` or `emnist/letters`; a `.npz` file with `x_train`,
        `y_train`, and optionally `x_val`, `y_val`, `x_test`, `y_test`; or a folder of images,
        `class/*.png` or `train/class/*.png`, `val/class/...`, `test/class/...`.
      data_dir: where TensorFlow Datasets keeps its data sets. None takes its default.
      preprocess: `raw`, `unit` (0 to 1), `symmetric` (-1 to 1), `standardize` (zero mean and unit
        variance in every channel over the training images), or the channels' means and
        deviations, as in `"mean_std((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))"`.
      batch_size: examples in a batch.
      augment: `none`, `flip`, `crop` or `flip_crop`; `"crop(pad=2)"` instead of 4 pixels.
      validation: fraction of the training examples held out where there is no validation split,
        stratified by class. 0 holds out none.
      image_size: height and width to which images are resized; needed where they differ.
      seed: of the order and the augmentation.
      download: lets TensorFlow Datasets download what `data_dir` lacks.

    Raises:
      ValueError: for unknown names, arguments that do not fit, and data that is damaged.
      FileNotFoundError: for a file or folder that is not there.

    Example:
      >>> digits = tfprune.data.load("digits", preprocess="symmetric")
      >>> model.fit(digits.train, validation_data=digits.validation)
    """
    name = os.fspath(name)
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be a fraction from 0 to below 1, not {validation}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    # Wrong words are reported before anything is read.
    augmenting = augmentations.get(augment)
    preprocessing.check(preprocess)

    source = _read(
        name, data_dir=data_dir, validation=validation, image_size=image_size, download=download
    )
    source = _with_all_splits(source, validation)
    if augmenting is not None and len(source.input_shape) != 3:
        raise ValueError(f"augment={augment!r} is for images; {name} holds feature vectors")
    steps = preprocessing.resolve(preprocess, source)

    def batches(examples: Examples) -> "tf.data.Dataset":
        return pipeline.ordered(examples, batch_size=batch_size, preprocess=steps)

    def shuffled(seed: int, first: int = 0) -> "tf.data.Dataset":
        return pipeline.shuffled(
            source.train,
            batch_size=batch_size,
            preprocess=steps,
            augment=augmenting,
            seed=seed,
            first=first,
        )

    splits = {"train": source.train, "validation": source.validation, "test": source.test}
    return Splits(
        name=name,
        train=shuffled(seed),
        shuffled=shuffled,
        train_plain=batches(source.train),
        validation=batches(source.validation) if source.validation else None,
        test=batches(source.test),
        classes=len(source.class_names),
        class_names=source.class_names,
        input_shape=source.input_shape,
        sizes={split: examples.size if examples else 0 for split, examples in splits.items()},
        preprocess=steps,
        calibration=lambda count, seed: batches(drawn(source.train, count, seed=seed)),
    )


def _read(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None,
    validation: float,
    image_size: tuple[int, int] | None,
    download: bool,
) -> Source:
    """Returns what `name` names, as stored."""
    path = pathlib.Path(name).expanduser()
    if name == "digits":
        return digits.read(image_size=image_size)
    if path.suffix == ".npz":
        return npz.read(path, image_size=image_size)
    if name.startswith((".", "~")) or path.is_absolute() or not catalogue.knows(name, data_dir):
        if path.is_dir():
            return folder.read(path, validation=validation, image_size=image_size)
        if path.exists():
            raise ValueError(f"{path} is neither a .npz file nor a folder of images")
        raise catalogue.unknown(name, data_dir)
    return catalogue.read(
        name, data_dir=data_dir, validation=validation, image_size=image_size, download=download
    )


def _with_all_splits(source: Source, validation: float) -> Source:
    """Returns `source` with a test split, and a validation split if one is wanted."""
    if source.test is None:
        train, test = holdout(source.train, TEST_FRACTION, name=source.name)
        source = dataclasses.replace(source, train=train, test=test)
    if source.validation is None and validation:
        train, held_out = holdout(source.train, validation, name=source.name)
        source = dataclasses.replace(source, train=train, validation=held_out)
    return source
