"""What each input channel of a layer adds to its outputs, and how that of two goes together."""

from collections.abc import Callable

import numpy as np

from tfprune import linalg


def products(
    weight: np.ndarray, gram: np.ndarray, unroll: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Returns M, (units, units): the inner products of what the units contribute to the output.

    A layer's output is the sum of what its input channels contribute, each through its own weights.
    M_cd is the product of two of these parts, summed over outputs and positions and averaged over
    examples, so that 1_T' M 1_T is the squared error of the output without the channels T.

    Args:
      weight: the kernel of the layer that reads the channels, canonical.
      gram: of its inputs, (groups, rows, rows).
      unroll: the view whose units are the channels; rows that belong to none are left out.
    """
    rows = linalg.matrix(weight, len(gram))
    numbers = np.arange(1, gram.shape[0] * gram.shape[1] + 1).reshape(*gram.shape[:2], 1)
    numbers = linalg.unmatrix(np.broadcast_to(numbers, rows.shape), weight.shape)
    numbers = unroll(numbers)  # 0 is padding
    member = np.zeros((len(numbers), 1 + gram.shape[0] * gram.shape[1]))
    np.put_along_axis(member, numbers, 1.0, axis=1)
    member = member[:, 1:].reshape(-1, *gram.shape[:2]).swapaxes(0, 1)
    by_row = gram * (rows @ rows.swapaxes(1, 2))
    return (member @ by_row @ member.swapaxes(1, 2)).sum(axis=0)
