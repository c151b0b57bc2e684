"""Models trained in mixed precision, made to compute in float32."""

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

    kept = [
        (layer, layer.dtype_policy)
        for layer in trace.layers(model)
        if layer.compute_dtype in ("float16", "bfloat16")
    ]
    try:
        for layer, _ in kept:
            layer.dtype_policy = "float32"
        yield [layer.name for layer, _ in kept]
    finally:
        for layer, policy in kept:
            layer.dtype_policy = policy
