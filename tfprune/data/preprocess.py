"""From stored values to what a network takes: x = (raw - mean) / std in every channel."""

import dataclasses

import numpy as np

from tfprune import registry
from tfprune.data.examples import Examples, Source

_MODES = ("raw", "unit", "symmetric", "standardize", "mean_std")


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """x = (raw - mean) / std, one mean and one deviation a channel (the last axis)."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check(spec: str) -> None:
    """Raises a ValueError if `spec` is no preprocessing, before any data is read."""
    name, args, kwargs = registry.parse(spec)
    if name not in _MODES:
        raise registry.unknown("preprocess", name, _MODES)
    if name == "mean_std":
        _mean_std(spec, *args, **kwargs) if len(args) + len(kwargs) == 2 else _refuse(spec)
    elif args or kwargs:
        raise ValueError(f"preprocess={spec!r}: {name} takes no arguments")


def resolve(spec: str, source: Source) -> Preprocess:
    """Returns the means and deviations that `spec` stands for on `source`.

    `unit` and `symmetric` map the range of the stored values, such as 0 to 255, to 0 to 1 and to
    -1 to 1. `standardize` takes them from the training images as stored.

    Raises:
      ValueError: if given means or deviations are not as many as the channels.
    """
    name, args, kwargs = registry.parse(spec)
    channels = source.input_shape[-1]
    span = (source.high - source.low) or 1.0
    if name == "raw":
        mean, std = [0.0], [1.0]
    elif name == "unit":
        mean, std = [source.low], [span]
    elif name == "symmetric":
        mean, std = [source.low + span / 2], [span / 2]
    elif name == "standardize":
        mean, std = _statistics(source.train)
    else:
        mean, std = _mean_std(spec, *args, **kwargs)
        if len(mean) not in (1, channels):
            raise ValueError(
                f"preprocess={spec!r} has {len(mean)} channels, {source.name} has {channels}"
            )
    if len(mean) == 1:
        mean, std = mean * channels, std * channels
    return Preprocess(name, tuple(mean), tuple(std))


def _mean_std(
    spec: str, mean: tuple[float, ...] | float, std: tuple[float, ...] | float
) -> tuple[list[float], list[float]]:
    """Returns the two arguments as lists of equal length."""
    try:
        mean, std = np.atleast_1d(mean).astype(float), np.atleast_1d(std).astype(float)
    except (TypeError, ValueError):
        _refuse(spec)
    if mean.ndim != 1 or mean.shape != std.shape or not (std > 0).all():
        _refuse(spec)
    return mean.tolist(), std.tolist()


def _refuse(spec: str) -> None:
    raise ValueError(
        f"can't read preprocess={spec!r}: give a mean and a positive deviation a channel, "
        'such as "mean_std((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))"'
    )


def _statistics(examples: Examples) -> tuple[list[float], list[float]]:
    """Returns the mean and the deviation of every channel, in one pass and in float64."""
    count, total, squares = 0, 0.0, 0.0
    for chunk in examples.chunks():
        values = chunk.reshape(-1, chunk.shape[-1]).astype(np.float64)
        count += len(values)
        total = total + values.sum(axis=0)
        squares = squares + np.square(values).sum(axis=0)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    # A constant channel is left at zero, as by scikit-learn's StandardScaler.
    std[std < 1e-12 * np.maximum(np.abs(mean), 1.0)] = 1.0
    return mean.tolist(), std.tolist()
