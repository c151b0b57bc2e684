"""Models made to compute in another precision than their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


@contextlib.contextmanager
def in_float32(model: keras.Model) -> Iterator[list[str]]:
    """Lets layers that compute in 16 bits compute in float32 inside the block; yields their names.

    The converter knows no 16-bit matrix product. The weights of a mixed-precision model are
    float32 already, so nothing is lost.
    """
    from tfprune.graph import trace

    half = [x for x in trace.layers(model) if x.compute_dtype in ("float16", "bfloat16")]
    with computing_in("float32", half):
        yield [layer.name for layer in half]


@contextlib.contextmanager
def in_float64(model: keras.Model) -> Iterator[None]:
    """Lets all layers compute in float64 inside the block, for numbers beyond 1e38.

    Weights keep their own precision, and are not cast: layers expect to be given values for them
    in float64, as by a `keras.StatelessScope`.
    """
    import keras

    from tfprune.graph import trace

    layers = trace.layers(model)
    inside = [x for x in layers if x is not model and isinstance(x, keras.Model)]
    ends = [tensor for nested in inside for tensor in nested.inputs or ()]
    floats = [x for x in ends if keras.backend.is_float_dtype(x.dtype)]
    kept = [(tensor, tensor.dtype) for tensor in floats]
    try:
        for tensor in floats:
            # A nested model casts what it is given to the type of its symbolic inputs, which has
            # no public way to be changed.
            tensor._dtype = "float64"
        with computing_in("float64", layers):
            yield
    finally:
        for tensor, dtype in kept:
            tensor._dtype = dtype


@contextlib.contextmanager
def computing_in(dtype: str, layers: list[keras.layers.Layer]) -> Iterator[None]:
    """Lets layers compute in `dtype` inside the block; their weights are cast when they are read.

    A tensor that passes between two of them keeps the precision.
    """
    kept = [(layer, layer.dtype_policy) for layer in layers]
    try:
        for layer, _ in kept:
            layer.dtype_policy = dtype
        yield
    finally:
        for layer, policy in kept:
            layer.dtype_policy = policy
