"""Trials: what happens to the loss when some units of a layer are masked."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tfprune.calibration import Calibration
from tfprune.graph.kernels import Kernel
from tfprune.planning import flow
from tfprune.planning.flow import Flow, Values

# Examples x arms of a pass, of which more are no faster, and the bytes of its largest tensor.
_WIDTH = 1024
_MEMORY = 2**28


class Trial:
    """Measures the change of the loss without some units; the model never changes.

    Args:
      calibration: the model, its data and loss.
      kernels: those that hold weights of the units.
      count: the number of units.
      without: which units go, bool (arms, count) -> {kernel name: what stays of it in each arm,
        bool (arms, *kernel.shape)}.

    Attributes:
      kernels, count: as given.
    """

    def __init__(
        self,
        calibration: Calibration,
        kernels: Sequence[Kernel],
        count: int,
        without: Callable[[np.ndarray], dict[str, np.ndarray]],
    ) -> None:
        self.kernels, self.count = kernels, count
        self._calibration, self._without = calibration, without

    def examples(self) -> Iterator[tuple[object, np.ndarray]]:
        """Yields the calibration examples in their order, in mini-batches (x, y)."""
        return self._calibration.examples(labels=True)

    def on(self, x: object, y: np.ndarray) -> Callable[..., np.ndarray]:
        """Returns `changes(arms, rows)`, which tries out units on rows of these examples.

        `arms` are the units to mask, one in each arm; `rows` is a slice of the examples, all by
        default. It returns by how much the loss of each example grows, (arms, examples). All arms
        see the same examples: one that is hard for all moves all of them, and the difference
        between two arms has less noise than with examples of their own.

        Raises:
          ValueError: if the loss of an example is NaN or infinite as the model is.
        """
        with self._calibration.unchanged():
            run = Flow(flow.operations(self._calibration, x), self.kernels)
            start = run.start(x)
            if any(value.shape[:1] != [len(y)] for value in start.values()):  # no axis of examples
                run = Flow(flow.whole(self._calibration, x), self.kernels)
                start = run.start(x)
            base = self._losses(run, start, y)
        if not np.isfinite(base).all():
            raise ValueError(
                "the loss of a calibration example is NaN or infinite, with nothing masked: check "
                "the scale of the inputs, and the labels"
            )
        width = max(1, min(_WIDTH, _MEMORY * len(y) // (4 * run.largest)))
        most = max(1, _MEMORY // (4 * sum(kernel.size for kernel in self.kernels)))

        def changes(arms: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
            part, labels = {key: value[rows] for key, value in start.items()}, y[rows]
            size = min(most, max(1, width // len(labels)))
            with self._calibration.unchanged():
                found = [
                    self._losses(run, part, labels, arms[i : i + size])
                    for i in range(0, len(arms), size)
                ]
            return np.concatenate(found) - base[:, rows]

        return changes

    def _losses(
        self, run: Flow, start: Values, y: np.ndarray, arms: np.ndarray | None = None
    ) -> np.ndarray:
        """Returns the loss of each example in each arm, (arms, examples), or as the model is."""
        count, masks = 1, {}
        if arms is not None:
            count, masks = len(arms), self._without(np.arange(self.count) == arms[:, None])
        return np.asarray(run.end(start, y, masks, count)).reshape(count, len(y))
