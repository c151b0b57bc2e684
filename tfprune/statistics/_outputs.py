"""Feature maps: what the channels that a kernel makes look like where they are read."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import trace as tracing
from tfprune.graph.kernels import Kernel

_L = keras.layers
_MAKERS = (
    _L.Dense,
    _L.EinsumDense,
    _L.Embedding,
    *(_L.Conv1D, _L.Conv2D, _L.Conv3D),
    *(_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose),
    *(_L.DepthwiseConv1D, _L.DepthwiseConv2D),
    *(_L.SeparableConv1D, _L.SeparableConv2D),
)
_ACTIVATIONS = (_L.Activation, _L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU)
# What changes channels in passing, each by itself or by statistics over them.
_PASSING = (
    *_ACTIVATIONS,
    *(_L.BatchNormalization, _L.LayerNormalization, _L.GroupNormalization),
    *(_L.UnitNormalization, _L.Normalization, _L.Rescaling),
    *(_L.Add, _L.Subtract, _L.Multiply, _L.Average, _L.Maximum, _L.Minimum),
)


def refuses(kernel: Kernel) -> str:
    """Returns why a kernel has no feature maps of its own, or an empty string."""
    layer = kernel.layer
    base = next((c for c in _MAKERS if isinstance(layer, c)), None)
    if base is None or type(layer).call is not base.call:
        return f"what comes out of a {type(layer).__name__} layer is not its kernel's alone"
    if kernel.variable is getattr(layer, "depthwise_kernel", None):
        return f"what it makes stays inside a {type(layer).__name__} layer"
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "its data_format is channels_first"
    if isinstance(layer, _L.EinsumDense) and not _one_axis(kernel):
        return "its outputs are not along the last axis alone"
    return ""


@contextlib.contextmanager
def maps(kernels: Sequence[Kernel]) -> Iterator[dict[str, list[tf.Tensor]]]:
    """Finds the feature maps of these kernels in the model that is called inside the block.

    A feature map is the output of the kernel's layer, followed through normalisation, dropout and
    addition up to the first activation or to what several layers, or one of another kind, read. It
    is a tensor of the model's own computation, so that a tape that saw the kernels has gradients
    in it.

    Yields:
      {kernel name: feature maps (n, *positions, outputs), one for each call of its layer}, filled
      at the end of the block. Kernels that are refused or never reached have none.
    """
    found: dict[str, list[tf.Tensor]] = {}
    calls: list[tracing.Call] = []
    with tracing.recorded(calls):
        yield found
    readers = _readers(calls)
    by_layer = {id(kernel.layer): kernel for kernel in kernels if not refuses(kernel)}
    for call in calls:
        if kernel := by_layer.get(id(call.layer)):
            found.setdefault(kernel.name, []).append(_follow(call, readers))


def mean(
    calibration: Calibration,
    kernels: Sequence[Kernel],
    value: Callable[[tf.Tensor], tf.Tensor],
) -> dict[str, np.ndarray]:
    """Returns {kernel name: mean over examples of `value`}, (outputs,).

    Args:
      calibration: the model and its data.
      kernels: those to look at.
      value: takes feature maps (n, *positions, outputs) and returns one value for each example and
        channel, (n, outputs). Of a layer that is called several times, it is the mean.
    """
    reached: list[str] = []

    def step(x: object) -> list[tf.Tensor]:
        with maps(kernels) as found:
            calibration.model(x, training=False)
        reached[:] = found
        several = [[tf.reduce_sum(value(a), axis=0) for a in seen] for seen in found.values()]
        return [tf.add_n(sums) / len(sums) for sums in several]

    sums, count = calibration.total(step)
    return {name: total / count for name, total in zip(reached, sums, strict=True)}


def over_positions(value: Callable[[tf.Tensor], tf.Tensor], a: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `value(a)` over the positions of feature maps, (n, outputs)."""
    result = tf.cast(value(a), tf.float32)
    return tf.reduce_mean(result, axis=list(range(1, len(a.shape) - 1)))


def _one_axis(kernel: Kernel) -> bool:
    """Returns whether an EinsumDense makes its channels along its output's last axis."""
    operands, _, result = kernel.layer.equation.replace(" ", "").partition("->")
    labels = operands.split(",")[1]
    return [labels[axis] for axis in kernel.order[-1]] == [result[-1]]


def _readers(calls: Sequence[tracing.Call]) -> dict[int, list[tracing.Call]]:
    """Returns {id of a tensor: the calls that read it}, without what only hands it on."""
    result: dict[int, list[tracing.Call]] = {}
    for call in calls:  # inner ones before outer ones
        same = {id(x) for x in call.outputs}  # dropout returns what it is given
        for key in {id(x) for x in call.inputs} - same:
            inside = {id(layer) for layer in tracing.layers(call.layer)}
            known = result.setdefault(key, [])
            if not any(id(other.layer) in inside - {id(call.layer)} for other in known):
                known.append(call)
    return result


def _follow(call: tracing.Call, readers: dict[int, list[tracing.Call]]) -> tf.Tensor:
    """Returns the tensor in which the channels that a call makes are read."""
    tensor = call.outputs[0]
    while not _activates(call.layer):
        following = readers.get(id(tensor), [])
        if len(following) != 1 or not isinstance(following[0].layer, _PASSING):
            break
        call = following[0]
        if call.outputs[0].shape != tensor.shape:
            break
        tensor = call.outputs[0]
    return tensor


def _activates(layer: keras.layers.Layer) -> bool:
    linear = (None, keras.activations.linear)
    return getattr(layer, "activation", None) not in linear or isinstance(layer, _ACTIVATIONS[1:])
