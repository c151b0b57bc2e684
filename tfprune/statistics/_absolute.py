"""The linear network of magnitudes: |w| for every weight, no shifts, no activations."""

import contextlib
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from tfprune.graph import precision
from tfprune.graph import trace as tracing

_L = keras.layers
CELLS = (_L.LSTMCell, _L.GRUCell, _L.SimpleRNNCell)
_ATTENTION = (_L.MultiHeadAttention, _L.GroupQueryAttention)
# Layers that hand a signal on where all is linear. Normalisation by the signal's own scale would
# make the output a constant.
_IDENTITIES = (
    *(_L.ReLU, _L.LeakyReLU, _L.PReLU, _L.ELU, _L.Softmax),
    *(_L.Rescaling, _L.Normalization, _L.UnitNormalization),
    *(_L.LayerNormalization, _L.RMSNormalization, _L.GroupNormalization),
)
_SHIFTS = ("bias", "beta", "moving_mean")


@contextlib.contextmanager
def absolute(model: keras.Model) -> Iterator[dict[int, tf.Tensor]]:
    """Makes `model` that network inside the block, and compute in float64.

    Yields:
      {id of a variable: |w|}, which tapes can watch.
    """
    scope, values = keras.StatelessScope(), {}
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            value = values[id(weight)] = tf.abs(tf.cast(weight.value, tf.float64))
            # Given to the constructor, it would be cast to the weight's own type.
            shift = weight.name in _SHIFTS
            scope.add_update((weight, tf.zeros_like(value) if shift else value))
    with precision.in_float64(model), scope, tracing.calls(_linear):
        yield values


def ones(model: keras.Model) -> object:
    """Returns one example of ones, in the structure that `model` takes."""
    spec = tracing.example_spec(model)
    return keras.tree.map_structure(lambda x: tf.ones(x.shape, x.dtype), spec)


def _linear(call: Callable, layer: keras.layers.Layer, args: tuple, kwargs: dict) -> object:
    """Calls a layer without its activation."""
    x = keras.tree.flatten((args, kwargs))[0]
    if isinstance(layer, _L.Embedding):
        return tf.ones((*x.shape, layer.output_dim), tf.float64)
    if isinstance(layer, _IDENTITIES):
        return x
    if isinstance(layer, _ATTENTION) and not kwargs.get("return_attention_scores"):
        # Asked for its scores, it computes them by its own Softmax layer.
        return call(layer, *args, **{**kwargs, "return_attention_scores": True})[0]
    if isinstance(layer, (_L.RNN, *CELLS)) or not hasattr(layer, "activation"):
        return call(layer, *args, **kwargs)
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        return call(layer, *args, **kwargs)
    finally:
        layer.activation = activation
