"""`SoftPruner`: prunes at every epoch what may grow back, and for good when training ends."""

from collections.abc import Sequence

import keras
import numpy as np

from tfprune import masks, targets
from tfprune.callbacks import claims, frozen
from tfprune.graph import kernels as k
from tfprune.planning import Plan, Recipe


class SoftPruner(keras.callbacks.Callback):
    """Sets the lowest units to zero after every epoch, and lets them train on.

    Soft filter pruning (He et al. 2018, arXiv 1808.06866): a unit that was chosen too early comes
    back, since each epoch chooses anew. Of a coupled channel only the filters that make it are
    zeroed meanwhile, as in the paper: were its normalisation and its readers zero as well, no
    gradient would reach it any more. When training ends the units chosen last are pruned whole,
    and their masks stay attached: see `tfprune.detach`.

    Zeros are set before the epoch's validation, which is that of the pruned model. The share of
    the kernels' weights that is chosen is added to the logs as `sparsity`. A callback that sets
    weights when training ends (EarlyStopping with restore_best_weights) goes before this one.

    Example:
      >>> model.fit(train, epochs=50, callbacks=[tfprune.SoftPruner("macs:0.5")])
      >>> small = tfprune.shrink(model)

    Args:
      target: as in `tfprune.prune`, but not in bytes or latency; it is met from the first epoch on.
      criterion: as in `tfprune.prune`; the paper's is the L2 norm.
      granularity: as in `tfprune.prune`; `"filter"` for models whose channels can't be followed.
      allocation: as in `tfprune.prune`; the paper prunes all layers alike.
      data, loss, protect, min_keep, max_sparsity, round_to, seed: as in `tfprune.prune`. Weights
        are not corrected.

    Raises:
      TypeError, ValueError: for a wrong word; when training begins, for a target that can't be
        met on the model.
    """

    async_safe = True

    def __init__(
        self,
        target: str | targets.Target,
        *,
        criterion: object = "l2",
        granularity: object = "channel",
        allocation: object = "uniform",
        data: object = None,
        loss: object = None,
        protect: Sequence[str] = (),
        min_keep: int = 1,
        max_sparsity: float = 1.0,
        round_to: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._recipe = Recipe.of(
            target,
            criterion=criterion,
            granularity=granularity,
            allocation=allocation,
            correction="none",
            protect=protect,
            min_keep=min_keep,
            max_sparsity=max_sparsity,
            round_to=round_to,
            seed=seed,
        )
        if self._recipe.target.found:
            raise targets.not_for_training(self._recipe.target)
        self._data, self._loss = data, loss
        self._plan: Plan | None = None
        self._zeroed = False
        self.sparsity = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Binds the words to the model."""
        del logs
        claims.alone(self)
        recipe = frozen.spared(self._recipe, self.model)
        self._plan = recipe.bind(self.model, data=self._data, loss=self._loss)
        self._plan.check()  # out of reach is better said now than after an epoch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Lets the units train."""
        del epoch, logs
        self._zeroed = False

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Zeroes the units before the epoch's validation."""
        del logs
        if self._plan is not None:
            self._zero()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Zeroes the units, and adds the sparsity to history and TensorBoard."""
        del epoch
        self._zero()
        if logs is not None:
            logs["sparsity"] = self.sparsity

    def on_train_end(self, logs: dict | None = None) -> None:
        """Prunes the units that rank lowest now, and attaches their masks."""
        del logs
        masks.attach(self.model, self._chosen())
        self._plan = None

    def _zero(self) -> None:
        if not self._zeroed:
            variables = k.named(self.model)
            for name, mask in _soft(self._plan, self._chosen()).items():
                masks.zero(variables[name], mask)
            self._zeroed = True

    def _chosen(self) -> masks.Masks:
        """Returns the masks by the weights as they are now."""
        chosen = self._plan.masks()
        self.sparsity = self._plan.sparsity(chosen)
        return chosen


def _soft(plan: Plan, chosen: masks.Masks) -> masks.Masks:
    """Returns the part of the masks that is zeroed while training goes on."""
    if not plan.recipe.coupled:
        return chosen
    names = {id(kernel.variable): kernel.name for kernel in plan.kernels}
    result = {}
    for slices in plan.channels.slices.values():
        name = names.get(id(slices.variable))
        if slices.role == "out" and name in chosen:
            # Where nothing is kept in a whole slice, its channel goes.
            others = tuple(i for i in range(chosen[name].ndim) if i != slices.axis)
            made = np.broadcast_to(chosen[name].any(axis=others, keepdims=True), chosen[name].shape)
            result[name] = result.get(name, True) & made
    return result
