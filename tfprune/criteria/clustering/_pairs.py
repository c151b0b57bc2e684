"""Redundancy of pairs: one of the two channels that are most alike goes, then the next pair's."""

import numpy as np


def removal_distances(similarity: np.ndarray) -> np.ndarray:
    """Returns 1 - |similarity| of each channel to the one it goes for, (channels,), never falling.

    Greedily, the pair that is most alike loses its later channel. Which of the two it is hardly
    matters to the layer, but where several layers make the same channels all have to choose the
    same. What is left is less and less alike, so that one sort gives the order of removal.

    Args:
      similarity: (channels, channels), from -1 to 1; constant channels, whose row and diagonal are
        0, go before all others. The last that is left has a distance of at least 1.
    """
    alive = np.diag(similarity) > 0
    earlier = np.tri(len(alive), k=-1, dtype=bool) & np.outer(alive, alive)
    alike = np.where(earlier, np.abs(similarity), -1.0)
    nearest, best = alike.argmax(axis=1), alike.max(axis=1)
    result = np.zeros(len(alive))
    left, highest = alive.copy(), 0.0
    for _ in range(np.count_nonzero(alive) - 1):
        unit = best.argmax()
        # A little more than the one before it: equals would be sorted by position.
        highest = result[unit] = max(1 - best[unit], highest * (1 + 1e-9))
        left[unit], best[unit], alike[:, unit] = False, -1.0, -1.0
        lost = np.flatnonzero(left & (nearest == unit))
        nearest[lost], best[lost] = alike[lost].argmax(axis=1), alike[lost].max(axis=1)
    result[left] = max(1.0, highest * (1 + 1e-9))
    return result
