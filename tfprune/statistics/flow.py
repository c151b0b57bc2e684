"""Synaptic flow: what each weight carries of a signal of ones through the network of |w|.

w * dR/dw with R the sum of the outputs for an input of ones, where all weights are replaced by
their magnitudes, biases and shifts of normalisations by zero, and activations by the identity
(Tanaka et al. 2020, arXiv 2006.05467). It needs no data. R is computed in float64, since it passes
the range of float32 after some thirty layers.
"""

import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._absolute import CELLS, absolute, ones

DATA = False


def refuses(kernel: Kernel) -> str:
    """Returns why no flow through a kernel is known, or an empty string."""
    if isinstance(kernel.layer, keras.layers.Embedding):
        return "a signal of ones chooses no rows of an Embedding"
    if isinstance(kernel.layer, CELLS):
        return "the gates of a recurrent layer hide what flows through its kernels"
    return ""


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns |w| dR/d|w| in the kernel's shape and float64, of the weights as they are now.

    Raises:
      ValueError: if nothing flows through a kernel when it is first asked for, since something
        stops the signal, such as a scale of zero or a softmax that is no layer.
    """
    # Traced once for a model and these kernels: an iterated criterion asks a hundred times.
    known, flows = calibration.memo.get("flow", (None, None))
    first = known != list(kernels)
    if first:
        flows = _compile(calibration.model, kernels)
        calibration.memo["flow"] = list(kernels), flows
    values = {name: np.asarray(value) for name, value in flows().items()}
    for kernel in kernels if first else ():
        if kernel.name in values and kernel.read().any() and not values[kernel.name].any():
            raise ValueError(
                f"layer {kernel.layer.name!r} ({kernel.name}): nothing flows through it to the "
                "output, since something on the way is zero or makes the output a constant: "
                "protect it, or choose another criterion"
            )
    return {x.name: x.canonical(values[x.name]) for x in kernels if x.name in values}


def _compile(model: keras.Model, kernels: Sequence[Kernel]) -> Callable[[], dict[str, tf.Tensor]]:
    """Returns a function to {kernel name: flow}; it reads the weights when it is called."""

    @functools.partial(tf.function, autograph=False)
    def flows() -> dict[str, tf.Tensor]:
        tape = tf.GradientTape(watch_accessed_variables=False)
        with absolute(model) as values, tape:
            weights = [values[id(kernel.variable)] for kernel in kernels]
            tape.watch(weights)
            outputs = keras.tree.flatten(model(ones(model), training=False))
            total = tf.add_n([tf.reduce_sum(tf.cast(x, tf.float64)) for x in outputs])
        found = zip(kernels, weights, tape.gradient(total, weights), strict=True)
        return {kernel.name: w * slope for kernel, w, slope in found if slope is not None}

    return flows
