"""Mini-batches for trials: few examples, drawn where the loss is, with weights that undo it.

A trained network has hardly any loss on most examples, whatever little is masked; the change of the
mean loss comes from the rest. Example i of n is drawn in proportion to

    q_i = sqrt(l_i - min l) + 0.03 sqrt(mean(l - min l)),    sum of q = 1,

l_i its loss, and weighs 1 / (n q_i), so that weighted means are still unbiased (Hansen & Hurwitz
1943). Draws are systematic along the order of the losses (Madow & Madow 1944): each mini-batch has
easy and hard ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel

LABELS = True

_FLOOR = 0.03


class Sample(NamedTuple):
    """Examples, mini-batch after mini-batch.

    Attributes:
      x, y: what the model takes, and labels.
      weight: of each example, (examples,).
    """

    x: object
    y: np.ndarray
    weight: np.ndarray


def collect(
    calibration: Calibration, kernels: Sequence[Kernel], *, pulls: int = 2, batch: int = 16
) -> dict[str, Sample]:
    """Returns 2 pulls - 1 mini-batches of `batch` examples, the same ones for all kernels.

    The calibration data are read once, and held until the examples are drawn.

    Raises:
      ValueError: for options out of range, or a loss that is NaN or infinite.
    """
    if pulls < 1 or batch < 1:
        raise ValueError(f"pulls={pulls!r}, batch={batch!r}: whole numbers, 1 or more, are needed")
    parts, losses = [], []
    with calibration.unchanged():
        for x, y in calibration.examples(labels=True):
            parts.append((x, y))
            losses.append(np.asarray(calibration.losses(x, tf.convert_to_tensor(y))))
    loss = np.concatenate(losses).astype(np.float64)
    if not np.isfinite(loss).all():
        raise ValueError(
            f"the loss of calibration example {np.flatnonzero(~np.isfinite(loss))[0]} is NaN or "
            "infinite: check the scale of the inputs, and the labels"
        )
    rows, weight = draw(loss, 2 * pulls - 1, batch, np.random.default_rng(calibration.seed))
    x, y = keras.tree.map_structure(lambda *all_: np.concatenate(all_)[rows], *parts)
    return {kernel.name: Sample(x, y, weight) for kernel in kernels}


def draw(
    loss: np.ndarray, count: int, batch: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows that are drawn, and their weights, (count * batch,) each."""
    above = loss - loss.min()
    share = np.sqrt(above) + _FLOOR * np.sqrt(above.mean()) if above.any() else np.ones(len(loss))
    share /= share.sum()
    order = np.argsort(loss, kind="stable")
    places = (rng.random() + np.arange(count * batch)) / (count * batch)
    drawn = np.searchsorted(np.cumsum(share[order]), places).clip(max=len(loss) - 1)
    rows = order[drawn].reshape(batch, count).T.ravel()
    return rows, 1 / (len(loss) * share[rows])
