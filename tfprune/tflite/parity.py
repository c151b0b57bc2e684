"""How far a file's outputs are from Keras'."""

from collections.abc import Sequence

import numpy as np


def compare(
    got: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    *,
    spreads: Sequence[float] | None = None,
) -> dict[str, float]:
    """Returns `max_abs_error`, `mean_abs_error` and `relative_error` over all outputs.

    `relative_error` is the worst output's: the mean absolute difference over the spread
    (standard deviation) of Keras' values, so it depends neither on the scale of the outputs nor
    on how many there are. Outputs that hardly vary count with 1 % of their largest value, lest
    a rounding in a constant look like a fault. It is infinite where a value isn't finite.

    Args:
      got: the file's outputs, one array an output, one sample a row.
      expected: Keras' outputs of the same shapes, finite.
      spreads: of Keras' values, from `spread`, where `expected` is a small part of them.

    Raises:
      ValueError: if number or shapes of the outputs differ.
    """
    shapes = [part.shape for part in got], [part.shape for part in expected]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the file returns shapes {shapes[0]}, Keras {shapes[1]}")
    differences = [
        np.abs(mine.astype(np.float64) - theirs) for mine, theirs in zip(got, expected, strict=True)
    ]
    spreads = spreads or [spread(theirs) for theirs in expected]
    everything = np.concatenate([part.ravel() for part in differences])
    if not np.isfinite(everything).all():
        infinite = float("inf")
        return dict.fromkeys(("max_abs_error", "mean_abs_error", "relative_error"), infinite)
    return {
        "max_abs_error": float(everything.max()),
        "mean_abs_error": float(everything.mean()),
        "relative_error": max(
            float(part.mean()) / scale for part, scale in zip(differences, spreads, strict=True)
        ),
    }


def spread(values: np.ndarray) -> float:
    """Returns the standard deviation of an output's values, at least 1 % of the largest."""
    values = values.astype(np.float64)
    return float(max(values.std(), 0.01 * np.abs(values).max(), np.finfo(np.float32).tiny))
