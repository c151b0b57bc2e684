"""What a source of data hands on: stored examples, before batches."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

# Decoded images up to this many bytes are held in memory; larger splits are read in every pass.
MEMORY_LIMIT = 2 << 30
# Of the training examples, where a data set has no labelled test split.
TEST_FRACTION = 0.2
# The split is part of the data set: the user's seed has no say in it.
_SPLIT_SEED = 20200613
# Examples of a stream among which the next one is drawn.
BUFFER = 10_000


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split: either arrays, or a stream of what would not fit in memory.

    Attributes:
      images: (size, *shape) of uint8 or float32.
      labels: (size,) of int64.
      stream: Dataset of single (image, label), in fixed order; then the arrays are None.
      size: number of examples.
    """

    images: np.ndarray | None
    labels: np.ndarray | None
    stream: "tf.data.Dataset | None"
    size: int

    @classmethod
    def of_arrays(cls, images: np.ndarray, labels: np.ndarray) -> "Examples":
        """Returns a split held in memory."""
        return cls(images, labels, None, len(images))

    @functools.cached_property
    def tensors(self) -> tuple["tf.Tensor", "tf.Tensor"]:
        """The arrays as TensorFlow holds them: one copy for all pipelines, never on a GPU."""
        import tensorflow as tf

        with tf.device("CPU"):
            return tf.constant(self.images), tf.constant(self.labels)

    def chunks(self) -> Iterator[np.ndarray]:
        """Yields all images in arrays of a few hundred."""
        if self.stream is None:
            yield from np.array_split(self.images, -(-self.size // 512))
        else:
            yield from (images.numpy() for images, _ in self.stream.batch(512))


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as stored. `low` and `high` are the ends of the range of its values."""

    name: str
    train: Examples
    validation: Examples | None
    test: Examples | None
    class_names: tuple[str, ...]
    input_shape: tuple[int, ...]
    low: float
    high: float


def held_out(labels: np.ndarray, fraction: float, *, name: str) -> np.ndarray:
    """Returns a boolean array: which examples are held out, `fraction` of every class.

    A class of two or more examples has at least one on either side.

    Raises:
      ValueError: if there is nothing to hold out.
    """
    rng = np.random.default_rng(_SPLIT_SEED)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held[members[:count]] = True
    if not held.any():
        raise ValueError(
            f"{name}: no class has two examples, so none can be held out; add examples or splits"
        )
    return held


def holdout(examples: Examples, fraction: float, *, name: str) -> tuple[Examples, Examples]:
    """Returns `examples` as two splits, the second with `fraction` of every class."""
    held = held_out(examples.labels, fraction, name=name)
    return tuple(
        Examples.of_arrays(examples.images[part], examples.labels[part]) for part in (~held, held)
    )


def drawn(examples: Examples, count: int, *, seed: int) -> Examples:
    """Returns `count` of the examples, or all if there are no more, in an order of the seed's."""
    count = min(count, examples.size)
    if examples.stream is not None:
        # A data set that does not fit in memory is often stored class by class.
        stream = examples.stream.shuffle(BUFFER, seed=seed, reshuffle_each_iteration=False)
        return Examples(None, None, stream.take(count), count)
    chosen = np.random.default_rng(seed).permutation(examples.size)[:count]
    return Examples.of_arrays(examples.images[chosen], examples.labels[chosen])


def resized(images: np.ndarray, size: tuple[int, int] | None, *, name: str) -> np.ndarray:
    """Returns `images` (n, h, w, c) at `size`, of the same type; as they are for None."""
    if size is None or images.shape[1:3] == size:
        return images
    if images.ndim != 4:
        raise ValueError(f"image_size is for images; {name} holds feature vectors")
    chunks = np.array_split(images, -(-len(images) // 512))
    return np.concatenate([resize(chunk, size).numpy() for chunk in chunks])


def resize(images: "tf.Tensor | np.ndarray", size: tuple[int, int]) -> "tf.Tensor":
    """Returns images (h, w, c) or (n, h, w, c) at `size`, bilinear, of the same type."""
    import tensorflow as tf

    dtype = tf.as_dtype(images.dtype)
    images = tf.image.resize(images, size, antialias=True)
    return tf.cast(tf.round(images), dtype) if dtype.is_integer else images
