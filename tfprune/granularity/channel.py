"""Coupled channels: everything that makes, changes or reads one channel, in all layers at once.

A unit is not a part of one kernel but of a `tfprune.graph.channels.Group`: the filters that are
added together, their biases and normalisation, and the inputs of whatever reads them. It is what
`tfprune.shrink` can remove (DepGraph, Fang et al. 2023, arXiv 2301.12900). A criterion scores a
channel's slice in each kernel; `join` makes one score of them, `normalise` makes the scores of
different groups comparable.
"""

from collections.abc import Sequence

import numpy as np

COUPLED = True

_JOIN = {
    "mean": lambda scores: np.mean(scores, axis=0),
    "sum": lambda scores: np.sum(scores, axis=0),
    "max": lambda scores: np.max(scores, axis=0),
    "first": lambda scores: scores[0],  # the filters of the layer that makes them first
}
_NORMALISE = {
    "mean": lambda scores: scores.mean(),
    "max": lambda scores: scores.max(),
    "none": lambda scores: 1.0,
}


def unroll(
    array: np.ndarray,
    axis: int,
    positions: np.ndarray,
    index: np.ndarray,
    *,
    join: str = "mean",
    normalise: str | None = None,
) -> np.ndarray:
    """Returns one row a channel, (channels, size), zeros where one has fewer positions.

    Args:
      array: a variable's values.
      axis: the axis along which the channels run.
      positions: where on it they are, (n,).
      index: the channel at each position, (n,); one may have several, as after a Flatten.
      join: how the scores of a channel's slices become one: mean, sum, max, or first.
      normalise: what the scores of a group are divided by: their mean, their max, or none;
        if None, their mean, unless the criterion says that its scores compare as they are.
    """
    del join, normalise
    order = np.argsort(index, kind="stable")
    rows = np.moveaxis(array, axis, 0)[positions[order]].reshape(len(order), -1)
    counts = np.bincount(index)
    if (counts == counts[0]).all():
        return rows.reshape(len(counts), -1)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    padded = np.zeros((len(counts), counts.max(), rows.shape[1]), rows.dtype)
    padded[index[order], place] = rows
    return padded.reshape(len(counts), -1)


def fold(keep: dict[int, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Returns the mask of a variable; `keep` says for some axes which positions stay."""
    mask = np.ones(shape, bool)
    for axis, stays in keep.items():
        mask &= stays.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return mask


def joined(
    scores: Sequence[np.ndarray],
    *,
    comparable: bool = False,
    join: str = "mean",
    normalise: str | None = None,
) -> np.ndarray:
    """Returns one score a channel, (channels,), of its scores in several kernels.

    Args:
      scores: (channels,) each.
      comparable: whether those of different groups compare as they are.
      join: as in `unroll`.
      normalise: as in `unroll`.
    """
    result = np.asarray(_JOIN[join](np.stack(scores)), np.float64)
    scale = abs(_NORMALISE[normalise or ("none" if comparable else "mean")](result))
    return result / scale if scale > 0 else result


def refuses(shape: tuple[int, ...], *, join: str = "mean", normalise: str | None = None) -> str:
    """Returns an error for options that are none."""
    del shape
    if join not in _JOIN or normalise not in (None, *_NORMALISE):
        raise ValueError(
            f"granularity channel(join={join!r}, normalise={normalise!r}): join is one of "
            f"{', '.join(_JOIN)}, normalise one of {', '.join(_NORMALISE)}"
        )
    return ""
