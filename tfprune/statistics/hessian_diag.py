"""Diagonal of the Hessian of the mean loss, by Hutchinson's estimator.

z * H z has the mean diag(H) for vectors z of random signs (Hutchinson 1990; Bekas, Kokiopoulou &
Saad 2007). Each batch has vectors of its own, so that the error shrinks with probes * batches.
"""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._gradients import Vectors, hessian_times, mean

LABELS = True


def collect(
    calibration: Calibration, kernels: Sequence[Kernel], *, probes: int = 1
) -> dict[str, np.ndarray]:
    """Returns an unbiased estimate of d2L/dw2 in the kernel's shape, from the calibration's seed.

    Args:
      calibration: the model, its data and loss.
      kernels: those to look at.
      probes: random vectors for each batch.
    """
    if probes < 1:
        raise ValueError(f"probes={probes}: one or more are needed")
    random = tf.random.Generator.from_seed(calibration.seed)

    def signs(kernel: Kernel) -> tf.Tensor:
        bits = random.uniform(tuple(kernel.variable.shape), maxval=2, dtype=tf.int32)
        return 2.0 * tf.cast(bits, tf.float32) - 1.0

    # A function of its own, since it is traced once for all probes.
    @functools.partial(tf.function, autograph=False)
    def probe(x: object, y: tf.Tensor) -> dict[str, tf.Tensor]:
        z = {kernel: signs(kernel) for kernel in kernels}
        products = hessian_times(calibration, x, y, z)
        return {kernel.name: z[kernel] * value for kernel, value in products.items()}

    def estimate(x: object, y: tf.Tensor) -> Vectors:
        found = [probe(x, y) for _ in range(probes)]
        reached = [kernel for kernel in kernels if kernel.name in found[0]]
        return {kernel: tf.add_n([f[kernel.name] for f in found]) / probes for kernel in reached}

    found = mean(calibration, estimate)
    return {kernel.name: kernel.canonical(value) for kernel, value in found.items()}
