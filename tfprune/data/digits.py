"""scikit-learn's 8x8 digits: real data that needs no download (Alpaydin & Kaynak 1998)."""

import numpy as np

from tfprune.data.examples import Examples, Source, resized


def read(*, image_size: tuple[int, int] | None = None) -> Source:
    """Returns the 1797 digits, (8, 8, 1) of values 0 to 16, without official splits."""
    from sklearn.datasets import load_digits

    stored = load_digits()
    images = stored.images[..., np.newaxis].astype(np.uint8)
    images = resized(images, image_size, name="digits")
    return Source(
        name="digits",
        train=Examples.of_arrays(images, stored.target.astype(np.int64)),
        validation=None,
        test=None,
        class_names=tuple(str(digit) for digit in stored.target_names),
        input_shape=images.shape[1:],
        low=0.0,
        high=16.0,
    )
