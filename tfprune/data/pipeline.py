"""Stored examples to batches.

Order and augmentation are functions of (seed, pass, batch), by stateless random operations: no
thread, no core count and no global seed has a say in them. Only the order of a stream, which is
shuffled in a buffer, depends on the global seed too.
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tfprune.data.augment import Augment
from tfprune.data.examples import BUFFER, Examples
from tfprune.data.preprocess import Preprocess

if TYPE_CHECKING:
    import tensorflow as tf


def ordered(examples: Examples, *, batch_size: int, preprocess: Preprocess) -> "tf.data.Dataset":
    """Returns batches of `examples` in their order, the same in every pass."""
    import tensorflow as tf

    if examples.stream is not None:
        batches = examples.stream.batch(batch_size)
    else:
        fetch = _fetch(examples)
        batches = tf.data.Dataset.range(examples.size).batch(batch_size)
        batches = batches.map(fetch, num_parallel_calls=tf.data.AUTOTUNE)

    def prepare(images: "tf.Tensor", labels: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        return _normalized(images, preprocess), labels

    return _finish(batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE), examples, batch_size)


def shuffled(
    examples: Examples,
    *,
    batch_size: int,
    preprocess: Preprocess,
    augment: Augment | None,
    seed: int,
    first: int = 0,
) -> "tf.data.Dataset":
    """Returns batches of `examples` in another order in every pass, augmented.

    Passes are counted from `first`.
    """
    import tensorflow as tf

    count = itertools.count(first)
    # The number of the pass is all the state there is: each iteration asks for it once.
    passes = tf.data.Dataset.from_generator(
        lambda: iter([next(count)]), output_signature=tf.TensorSpec((), tf.int64)
    )

    def keys(number: "tf.Tensor") -> "tf.data.Dataset":
        key = tf.stack([tf.constant(seed, tf.int64), number])
        fold_in = tf.random.experimental.stateless_fold_in
        return tf.data.Dataset.counter().map(lambda batch: fold_in(key, batch))

    def indices(number: "tf.Tensor") -> "tf.data.Dataset":
        key = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.range(examples.size, dtype=tf.int64)
        order = tf.random.experimental.stateless_shuffle(order, seed=key)
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    if examples.stream is None:
        fetch = _fetch(examples)
        batches = passes.flat_map(lambda n: tf.data.Dataset.zip(keys(n), indices(n)))
    else:
        fetch = None
        stream = examples.stream.shuffle(min(BUFFER, examples.size), seed=seed)
        batches = tf.data.Dataset.zip(passes.flat_map(keys), stream.batch(batch_size))

    def prepare(key: "tf.Tensor", batch: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        images, labels = fetch(batch) if fetch else batch
        if augment is not None:
            images = augment(images, key)
        return _normalized(images, preprocess), labels

    return _finish(batches.map(prepare, num_parallel_calls=tf.data.AUTOTUNE), examples, batch_size)


def _fetch(examples: Examples) -> Callable[["tf.Tensor"], tuple["tf.Tensor", "tf.Tensor"]]:
    """Returns the function from indices (n,) to images and labels."""
    import tensorflow as tf

    images, labels = examples.tensors
    return lambda indices: (tf.gather(images, indices), tf.gather(labels, indices))


def _normalized(images: "tf.Tensor", preprocess: Preprocess) -> "tf.Tensor":
    import tensorflow as tf

    mean, std = np.float32(preprocess.mean), np.float32(preprocess.std)
    return (tf.cast(images, tf.float32) - mean) / std


def _finish(batches: "tf.data.Dataset", examples: Examples, batch_size: int) -> "tf.data.Dataset":
    """Returns `batches` of known number, in fixed order, made ahead."""
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    batches = batches.with_options(options)
    batches = batches.apply(
        tf.data.experimental.assert_cardinality(-(-examples.size // batch_size))
    )
    return batches.prefetch(tf.data.AUTOTUNE)
