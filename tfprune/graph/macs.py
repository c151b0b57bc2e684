"""Multiply-accumulates (MACs) of one example, by kernel.

Counted are the products with kernels, and the two products inside attention layers. Biases,
normalisation, activations and pooling are not, as is usual in the pruning literature
(Blalock et al. 2020, arXiv 2003.03033).
"""

import dataclasses
import math

import keras

from tfprune.graph import kernels as k
from tfprune.graph import trace as tracing

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def positions(
    model: keras.Model, kernels: list[k.Kernel], input_shape: object = None
) -> dict[str, int]:
    """Returns {kernel name: times that each of its weights is used for one example}.

    A convolution uses a weight once for each output position, a transposed one once for each
    input position, a recurrent kernel once a time step, an embedding never (it is looked up).
    A layer that is called twice counts twice. A kernel's MACs are this times its size.

    Raises:
      ValueError: if the model is not built or leaves its input size open.
    """
    return parts(model, kernels, input_shape)[0]


def total(model: keras.Model, input_shape: object = None) -> int:
    """Returns the MACs of one example, zeros not taken into account."""
    kernels, _ = k.find(model)
    uses, attention = parts(model, kernels, input_shape)
    return sum(uses[x.name] * x.size for x in kernels) + sum(n for _, n in attention)


def parts(
    model: keras.Model, kernels: list[k.Kernel], input_shape: object = None
) -> tuple[dict[str, int], list[tuple[keras.layers.Layer, int]]]:
    """Returns `positions`, and for each call of an attention layer the MACs of its products."""
    calls = tracing.trace(model, input_shape)
    attention = [(call.layer, _attention(call)) for call in calls]
    return _count(kernels, calls), [(layer, n) for layer, n in attention if n]


def _count(kernels: list[k.Kernel], calls: list[tracing.Call]) -> dict[str, int]:
    uses = dict.fromkeys((kernel.name for kernel in kernels), 0)
    by_layer: dict[int, list[k.Kernel]] = {}
    for kernel in kernels:
        by_layer.setdefault(id(kernel.layer), []).append(kernel)
    for call in calls:
        if isinstance(call.layer, keras.layers.TimeDistributed):
            # It runs its layer's `call` itself, so that only its own shapes are seen.
            call = dataclasses.replace(call, layer=call.layer.layer)  # noqa: PLW2901
        if isinstance(call.layer, keras.layers.RNN):
            # Inside the loop the cell is traced once or twice, whatever the number of steps.
            cell = call.layer.cell
            for kernel in [x for c in tracing.layers(cell) for x in by_layer.get(id(c), ())]:
                uses[kernel.name] += call.inputs[0].shape[1]
        elif not isinstance(call.layer, _CELLS):
            own = by_layer.get(id(call.layer), ())
            for kernel in own:
                uses[kernel.name] += _uses(call, own[-1])
    return uses


_CELLS = (keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell)


def _uses(call: tracing.Call, kernel: k.Kernel) -> int:
    if isinstance(call.layer, keras.layers.Embedding):
        return 0
    if isinstance(call.layer, _TRANSPOSED):
        return math.prod(call.inputs[0].shape) // kernel.shape[-2]
    # The layer's last kernel makes its outputs: a separable convolution's first has other channels.
    return math.prod(call.outputs[0].shape) // kernel.shape[-1]


def _attention(call: tracing.Call) -> int:
    """Returns the MACs of the products of queries with keys and of scores with values."""
    layer = call.layer
    if isinstance(layer, keras.layers.MultiHeadAttention):
        width = layer.num_heads * (layer.key_dim + layer.value_dim)
    elif isinstance(layer, keras.layers.GroupQueryAttention):
        width = layer.num_query_heads * 2 * layer.head_dim
    else:
        return 0
    query, value = (math.prod(x.shape[:-1]) for x in call.inputs[:2])
    return query * value * width
