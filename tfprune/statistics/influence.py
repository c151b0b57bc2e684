"""What the network's final responses owe to each output channel, through magnitudes of weights.

The final responses are what the last kernel reads. How much each of them matters, s, is ranked by
Infinite Feature Selection (Roffo et al. 2015) on the data; neurons before them get

    s_l = |W_(l+1)|^T s_(l+1)

layer by layer (Yu et al. 2018, arXiv 1711.05908): the gradient of the responses, weighed by s, in
the linear network of magnitudes, in which a normalisation is its scale.
"""

from collections.abc import Sequence

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import kernels as k
from tfprune.graph import taps
from tfprune.graph import trace as tracing
from tfprune.graph.kernels import Kernel
from tfprune.statistics import _absolute, _outputs


def refuses(kernel: Kernel) -> str:
    """Returns why nothing is known of a kernel's channels, or an empty string."""
    if isinstance(kernel.layer, keras.layers.Embedding):
        return "a signal of ones chooses no rows of an Embedding"
    return _outputs.refuses(kernel)


def collect(calibration: Calibration, kernels: Sequence[Kernel]) -> dict[str, np.ndarray]:
    """Returns the sum over positions of the neurons' importance, (outputs,).

    The last kernel makes no responses: its outputs all matter as much as all responses together.
    """
    model = calibration.model
    last = _last(model)
    importance = infinite_selection(_responses(calibration, last))

    @tf.function(autograph=False)
    def gradients() -> dict[str, list[tf.Tensor]]:
        calls: list[tracing.Call] = []
        tape = tf.GradientTape(watch_accessed_variables=False)
        with _absolute.absolute(model) as weights, tape:
            tape.watch([weights[id(kernel.variable)] for kernel in kernels])
            with tracing.recorded(calls), _outputs.maps(kernels) as found:
                model(_absolute.ones(model), training=False)
            read = [call.inputs[0] for call in calls if call.layer is last.layer]
            total = tf.add_n([tf.reduce_sum(x * importance) for x in read])
        slopes = tape.gradient(total, found)
        return {name: [v for v in several if v is not None] for name, several in slopes.items()}

    result = {}
    for name, slopes in gradients().items():
        if slopes:
            result[name] = sum(v.numpy().reshape(-1, v.shape[-1]).sum(axis=0) for v in slopes)
    if last.name in {kernel.name for kernel in kernels}:
        result[last.name] = np.full(last.shape[-1], importance.sum())
    return result


def infinite_selection(features: np.ndarray) -> np.ndarray:
    """Returns the energy of each feature, (features,), by Inf-FS (Roffo et al. 2015, ICCV).

    With A_ij = (max(sd_i, sd_j) + 1 - |rank correlation of i and j|) / 2 it is the sum over j of
    [(I - 0.9 / rho(A) A)^-1 - I]_ij: the value of all paths through the features that begin at i.
    Standard deviations are brought to [0, 1], as in the authors' code; a feature that never
    changes is not unlike others.

    Args:
      features: (examples, features).
    """
    spread = features.std(axis=0, dtype=np.float64)
    moves = spread > 0
    ranks = scipy.stats.rankdata(features, axis=0)
    ranks = (ranks - ranks.mean(axis=0)) / np.where(moves, ranks.std(axis=0), 1)
    unlike = (1 - np.abs(ranks.T @ ranks / len(ranks))) * np.outer(moves, moves)
    low, high = spread.min(), spread.max()
    spread = (spread - low) / (high - low) if high > low else np.ones_like(spread)
    graph = (np.maximum.outer(spread, spread) + unlike) / 2
    graph *= 0.9 / np.linalg.eigvalsh(graph)[-1]
    return np.linalg.solve(np.eye(len(graph)) - graph, np.ones(len(graph))) - 1


def _last(model: keras.Model) -> Kernel:
    """Returns the kernel that is used last."""
    by_layer = {id(x.layer): x for x in k.find(model)[0] if not taps.refuses(x)}
    calls = reversed(tracing.trace(model))
    return next(by_layer[id(call.layer)] for call in calls if id(call.layer) in by_layer)


def _responses(calibration: Calibration, last: Kernel) -> np.ndarray:
    """Returns what goes into the last kernel, averaged over positions, (examples, inputs)."""

    def step(x: object) -> tf.Tensor:
        found: list[tf.Tensor] = []

        def see(kernel: Kernel, inputs: tf.Tensor, z: tf.Tensor) -> tf.Tensor:
            del kernel
            found.append(tf.reduce_mean(inputs, axis=list(range(1, len(inputs.shape) - 1))))
            return z

        with taps.tapped([last], see):
            calibration.model(x, training=False)
        return found[-1]

    compiled = tf.function(step, reduce_retracing=True, autograph=False)
    with calibration.unchanged():
        return np.concatenate([compiled(x).numpy() for x, _ in calibration.examples()])
