"""Random changes to training images, a function of batch and seed alone."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfprune import registry

if TYPE_CHECKING:
    import tensorflow as tf

# (images (n, h, w, c), seed (2,)) -> images of the same shape and type
Augment = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]


def get(spec: str) -> Augment | None:
    """Returns the augmentation that `spec` names; None for `none`.

    Raises:
      ValueError: if there is none of that name, or if it takes no such arguments.
    """
    name, args, kwargs = registry.parse(spec)
    known = {"none": _none, "flip": flip, "crop": crop, "flip_crop": flip_crop}
    if name not in known:
        raise registry.unknown("augment", name, known)
    if args or not kwargs.keys() <= {"pad"} & inspect.signature(known[name]).parameters.keys():
        raise ValueError(f'augment={spec!r}: write "crop(pad=2)" or "flip_crop(pad=2)"')
    pad = kwargs.get("pad", 4)
    if not isinstance(pad, int) or pad < 1:
        raise ValueError(f"augment={spec!r}: pad must be a whole number of pixels, at least 1")
    return None if name == "none" else functools.partial(known[name], **kwargs)


def flip(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Returns the images, half of them mirrored left to right."""
    import tensorflow as tf

    mirrored = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), seed) < 0.5
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images)


def crop(images: "tf.Tensor", seed: "tf.Tensor", *, pad: int = 4) -> "tf.Tensor":
    """Returns the images shifted at random by up to `pad` pixels, zeros (as stored) moving in."""
    import tensorflow as tf

    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    padded = tf.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    corner = tf.random.stateless_uniform(
        (count, 2, 1), seed, minval=0, maxval=2 * pad + 1, dtype=tf.int32
    )
    rows = tf.gather(padded, corner[:, 0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, corner[:, 1] + tf.range(width), axis=2, batch_dims=1)


def flip_crop(images: "tf.Tensor", seed: "tf.Tensor", *, pad: int = 4) -> "tf.Tensor":
    """Returns the images mirrored and shifted, as He et al. (2015, arXiv:1512.03385) do."""
    import tensorflow as tf

    first, second = tf.unstack(tf.random.split(seed, 2))
    return crop(flip(images, first), second, pad=pad)


def _none(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    return images
