"""`scan`: what it costs to cut each layer alone, the others whole: where a network can be cut.

Layer by layer and sparsity by sparsity, as in Han et al. 2015 (arXiv 1506.02626) and Li et al. 2016
(arXiv 1608.08710): the units that a criterion ranks lowest go, nothing is trained, and loss and
accuracy are measured on held-out data. `tfprune.allocation.sensitivity` turns the table into an
allocation.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfprune import allocation as allocations
from tfprune import batches, losses
from tfprune.graph import kernels as k
from tfprune.measurement import accuracy
from tfprune.planning import Recipe
from tfprune.planning.recipe import Plan, Scores
from tfprune.pruning import clone

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("tfprune")

SPARSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)

# A line of the table, by column.
Row = dict[str, str | float | int]


def scan(model: keras.Model, evaluation: object, **words: object) -> pd.DataFrame:
    """Returns what loss and accuracy become when a layer is pruned alone: one row a point.

    Example:
      >>> table = tfprune.scan(model, (x_val, y_val))
      >>> table.pivot(index="layer", columns="sparsity", values="top1_change")

    Args:
      model: a built Keras model; untouched.
      evaluation: held-out data: batches of (x, y), or a tuple of arrays. All of it is read for
        each point.
      **words: as in `Scan`.

    Returns:
      A table with the columns of `Scan.rows`.

    Raises:
      TypeError, ValueError: as `Scan`.
    """
    import pandas as pd

    return pd.DataFrame(Scan(model, evaluation, **words).rows())


class Scan:
    """A model and the points to measure; `rows` measures them one by one.

    Attributes:
      names: of the layers in order: kernels, or the groups of coupled channels.
      sparsities: those that each is pruned to.
    """

    def __init__(
        self,
        model: keras.Model,
        evaluation: object,
        *,
        criterion: object = "magnitude",
        granularity: object = "weight",
        correction: str = "own",
        protect: Sequence[str] = (),
        sparsities: Sequence[float] = SPARSITIES,
        data: object = None,
        loss: object = None,
        seed: int = 0,
    ) -> None:
        """Makes a copy of the model to work on; one that can't be copied is put back each time.

        Args:
          model: a built Keras model.
          evaluation: as in `scan`.
          criterion: how much a unit matters; it and the next three as in `tfprune.prune`.
          granularity: what goes together.
          correction: what the weights of the layer that stay become.
          protect: layers that are not scanned.
          sparsities: shares of a layer's weights, above 0 and up to 1.
          data: calibration data, as in `tfprune.prune`.
          loss: what is measured, and what the criterion scores by; see `tfprune.prune`.
          seed: of random scores.

        Raises:
          TypeError, ValueError: for a wrong word, a model that is not built, or missing data.
        """
        self.sparsities = sorted({float(s) for s in sparsities})
        if not self.sparsities or not 0 < self.sparsities[0] <= self.sparsities[-1] <= 1:
            raise ValueError(f"sparsities {sparsities}: shares above 0, up to 1, are needed")
        words = {"criterion": criterion, "granularity": granularity, "correction": correction}
        words |= {"protect": protect, "min_keep": 0, "seed": seed}
        recipe = Recipe.of("params:0.5", **words)
        try:
            self._model = clone(model)
        except ValueError as error:
            log.info("the model itself is pruned and put back: %s", error)
            self._model = model
        self._plan = recipe.bind(self._model, data=data, loss=loss)
        self._macs: Plan | None = None
        try:
            self._macs = Recipe.of("macs:0.5", **words).bind(self._model, data=data)
        except ValueError as error:  # the size of the input is open
            log.info("MACs are not counted: %s", error)
        self._evaluation, self._loss = evaluation, keras.losses.get(loss) if loss else None
        self._forward = accuracy.predictor(self._model)
        self.names = [layer.name for layer in self._plan.unscored()]

    def __len__(self) -> int:
        """Returns the number of points."""
        return len(self.names) * len(self.sparsities)

    def rows(self, done: Iterable[Row] = ()) -> Iterator[Row]:
        """Yields one row a point, in order; the model is whole whenever one is yielded.

        Args:
          done: rows of an earlier scan in the same words, which are not measured again.

        Yields:
          `layer`: the name of the kernel, or of the group of channels.
          `granularity`: as given.
          `sparsity`: what was asked for.
          `zeros`: the share of the layer's weights that went: the nearest there is.
          `units`: how many units that are.
          `loss`, `top1`: on the held-out data; top-1 only where the targets are classes.
          `loss_change`, `top1_change`: against the dense model.
          `params_removed`, `macs_removed`: what the whole model saves by it.
        """
        known = {(str(row["layer"]), round(float(row["sparsity"]), 6)): row for row in done}
        for index, name in enumerate(self.names):
            before, facts = None, {}
            for sparsity in self.sparsities:
                if found := known.get((name, round(sparsity, 6))):
                    yield dict(found)
                    continue
                gone = self._gone(index, sparsity)
                if before is None or (gone != before).any():
                    facts = self._measured(index, gone)
                    before = gone
                yield {
                    "layer": name,
                    "granularity": self._plan.recipe.granularity.name,
                    "sparsity": sparsity,
                } | facts

    def times(self, *, threads: int = 1) -> dict[str, float]:
        """Returns {layer name: milliseconds in LiteRT}, each timed alone; see `layer_times`.

        A group of channels takes the time of all layers that make, change or read them: with all
        its channels, all these would go.

        Raises:
          ValueError, RuntimeError: as `tfprune.tflite.layer_times.layer_times`.
        """
        from tfprune.tflite.layer_times import layer_times

        kernels = {x.name: x for x in self._plan.kernels}
        times = layer_times(self._model, list(kernels.values()), threads=threads)
        result = {}
        for index, layer in enumerate(self._plan.unscored()):
            masks = self._plan.without(index, np.ones(len(layer.scores), bool))
            touched = [name for name in masks if name in times and not masks[name].all()]
            result[layer.name] = sum(times[name] for name in touched)
        return result

    @functools.cached_property
    def _scores(self) -> Scores:
        return self._plan.scores()

    @functools.cached_property
    def dense(self) -> dict[str, float]:
        """`loss` and `top1` of the model as it is."""
        return self._judged()

    def _gone(self, index: int, sparsity: float) -> np.ndarray:
        """Returns which units of a layer go, (n_units,): the lowest, to the nearest."""
        layer = self._scores.layers[index]
        return (allocations.quantiles(layer) < sparsity) & ~layer.locked

    def _measured(self, index: int, gone: np.ndarray) -> Row:
        """Returns the columns of a row that don't depend on what was asked for."""
        sizes = self._scores.layers[index].sizes
        masks = self._plan.without(index, gone)
        with _changed(self._model, *self._plan.corrected(masks, self._scores)):
            judged = self._judged()
        changes = {f"{key}_change": judged[key] - self.dense[key] for key in judged}
        saved = {"params_removed": int(self._plan.saved(index, gone))}
        if self._macs is not None:
            saved["macs_removed"] = int(self._macs.saved(index, gone))
        zeros = float(sizes[gone].sum() / sizes.sum())
        return {"zeros": zeros, "units": int(gone.sum()), **judged, **changes, **saved}

    def _judged(self) -> dict[str, float]:
        """Returns `loss` and `top1` of the model as it is now."""
        summed, correct, labelled, total = 0.0, 0, 0, 0
        fitting = None
        for x, y in batches.pairs(self._evaluation):
            if y is None:
                raise ValueError("accuracy needs labels: pass batches of (x, y)")
            outputs = accuracy.only_output(self._forward(x), self._model.name)
            accuracy.check_finite(outputs, self._model.name)
            fitting = fitting or losses.fitting(self._model, y, outputs)
            hits = accuracy.hits(outputs, y, loss=fitting).get("top1", np.zeros(0))
            correct, labelled = correct + int(hits.sum()), labelled + hits.size
            summed += float(np.mean((self._loss or fitting)(y, outputs))) * len(outputs)
            total += len(outputs)
        if not total:
            raise ValueError("there are no examples in the evaluation data")
        return {"loss": summed / total} | ({"top1": correct / labelled} if labelled else {})


@contextlib.contextmanager
def _changed(
    model: keras.Model, masks: dict[str, np.ndarray], weights: dict[str, np.ndarray]
) -> Iterator[None]:
    """Has a model's weights masked, and set to what a correction makes of them, in the block."""
    named = {name: variable for name, variable in k.named(model).items() if name in masks}
    before = {name: keras.ops.convert_to_numpy(w) for name, w in named.items()}
    touched = [name for name in named if not masks[name].all()]
    try:
        for name in touched:
            value = weights.get(name, before[name])
            named[name].assign(np.where(masks[name], value, np.zeros((), value.dtype)))
        yield
    finally:
        for name in touched:
            named[name].assign(before[name])
