"""Blocks on the diagonal of the empirical Fisher matrix, damped so that they have an inverse.

F = E[g gT] + damping * mean * I, g the gradients of single examples' losses, mean that of E[g^2]
over all weights in question. A kernel's weights are lined up as in PyTorch's layout, output after
output, input after input, and cut into blocks of consecutive ones; the last is filled up with zeros
(WoodFisher, Singh & Alistarh 2020, arXiv 2004.14340, which damps by a constant, 1e-5).
"""

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.statistics._examples import per_example

LABELS = True

# Weights in a block, and what is added to the diagonal, as a share of its mean.
BLOCK = 128
DAMPING = 0.1
# Numbers that a pass over the data may sum up: 1 GB with their copies.
_NUMBERS = 2**26


def collect(
    calibration: Calibration,
    kernels: Sequence[Kernel],
    *,
    block: int = BLOCK,
    damping: float = DAMPING,
) -> dict[str, np.ndarray]:
    """Returns (blocks, block, block) of each kernel in float32; smaller kernels are one block.

    Raises:
      ValueError: for options out of range.
    """
    if block < 1 or damping <= 0:
        raise ValueError(f"block={block}, damping={damping}: they are above 0")

    def products(kernel: Kernel, gradients: tf.Tensor) -> tf.Tensor:
        parts = blocks(gradients, min(block, kernel.size))
        return tf.matmul(tf.transpose(parts, (1, 2, 0)), tf.transpose(parts, (1, 0, 2)))

    result = {}
    for some in _passes(kernels, block):
        sums, count = per_example(calibration, some, products)
        result |= {name: (total / count).astype(np.float32) for name, total in sums.items()}
    size = sum(kernel.size for kernel in kernels if kernel.name in result)
    mean = sum(np.trace(found, axis1=1, axis2=2).sum() for found in result.values()) / max(size, 1)
    for found in result.values():
        np.einsum("bii->bi", found)[:] += damping * mean if mean > 0 else 1.0
    return result


def blocks(arrays: tf.Tensor, size: int) -> tf.Tensor:
    """Returns arrays of canonical shape, (n, *shape), as (n, blocks, size)."""
    rank = len(arrays.shape)
    turned = keras.ops.transpose(arrays, (0, rank - 1, rank - 2, *range(1, rank - 2)))
    flat = keras.ops.reshape(turned, (-1, math.prod(arrays.shape[1:])))
    filled = keras.ops.pad(flat, ((0, 0), (0, -flat.shape[1] % size)))
    return keras.ops.reshape(filled, (-1, filled.shape[1] // size, size))


def unblocks(parts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array (blocks, size) in canonical shape."""
    *spatial, inputs, outputs = shape
    flat = parts.reshape(-1)[: math.prod(shape)].reshape(outputs, inputs, *spatial)
    return np.moveaxis(flat, (1, 0), (-2, -1))


def _passes(kernels: Sequence[Kernel], block: int) -> Iterator[list[Kernel]]:
    """Yields the kernels in parts whose blocks fit into memory while they are summed up."""
    part, numbers = [], 0
    for kernel in kernels:
        size = kernel.size * min(block, kernel.size)
        if part and numbers + size > _NUMBERS:
            yield part
            part, numbers = [], 0
        part.append(kernel)
        numbers += size
    yield part
