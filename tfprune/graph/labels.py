"""Labels that are found to be the same: a union-find over whole arrays of them."""

import numpy as np


class Labels:
    """Numbers, each of which stands for one channel until it is united with another."""

    def __init__(self) -> None:
        self._parent = np.zeros(0, np.int64)

    def fresh(self, count: int) -> np.ndarray:
        """Returns `count` labels that were not there before, (count,)."""
        start = len(self._parent)
        self._parent = np.append(self._parent, np.arange(start, start + count))
        return np.arange(start, start + count)

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """Returns for each label the one that stands for all it was united with."""
        found = self._parent[labels]
        while not np.array_equal(higher := self._parent[found], found):
            found = higher
        self._parent[labels] = found
        return found

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Unites two arrays of labels element by element; they may broadcast."""
        first, second = np.broadcast_arrays(first, second)
        while True:
            a, b = self.roots(first), self.roots(second)
            differ = a != b
            if not differ.any():
                return
            # Where a root stands in several pairs one of them wins; the others go another round.
            self._parent[np.maximum(a, b)[differ]] = np.minimum(a, b)[differ]

    def __len__(self) -> int:
        return len(self._parent)
