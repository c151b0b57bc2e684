"""Mean of the squared gradients of single examples: the diagonal of the empirical Fisher matrix."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._examples import per_example

LABELS = True


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns E[(dL/dw)^2] over the examples, in the kernel's shape."""

    def square(kernel: Kernel, gradient: tf.Tensor) -> tf.Tensor:
        del kernel
        return tf.reduce_sum(tf.square(gradient), axis=0)

    def product(kernel: Kernel, x: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
        del kernel
        return tf.matmul(tf.square(x), tf.square(slope), transpose_a=True)

    sums, count = per_example(calibration, kernels, square, rank_one=product)
    return {name: total / count for name, total in sums.items()}
