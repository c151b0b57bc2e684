"""`Centripetal`: draws the channels of a cluster together until all but one can go for free."""

import logging
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from tfprune import masks, schedules, targets
from tfprune.callbacks import claims, frozen, moments
from tfprune.graph import kernels as k
from tfprune.planning import Recipe, merging
from tfprune.planning.channel_plan import ChannelPlan

log = logging.getLogger("tfprune")

# The share of the first distance from a cluster's mean that is left when the last of it goes.
FINAL = 1e-4


class Centripetal(keras.callbacks.Callback):
    """Trains the channels of each cluster to be the same, and then merges them.

    Centripetal SGD (Ding et al. 2019, arXiv 1904.03837): the filters of a cluster share the mean of
    their gradients, and are drawn to their mean,

        W_i <- W_i - rate * mean of gradients + pull * (mean of W - W_i)

    so that their differences vanish exponentially, whatever the loss. Here the same is done to the
    optimizer's updates, inside the compiled train step, so that it works with any optimizer; to all
    that makes a coupled channel (filters in all layers that are added, biases, normalisation); and
    the pull is such that 1e-4 of a difference is left at `end`, and none after it.

    Clusters are the channels that the target keeps, each with those that go and are nearest to it.
    When training ends, what reads a channel that goes is added to what reads the one that stays,
    which changes nothing, and masks are attached: `tfprune.shrink` then removes them.

    The share of the distance that is left is added to the logs as `apart`. A callback that sets
    weights when training ends (EarlyStopping with restore_best_weights) goes before this one.

    Example:
      >>> model.fit(train, epochs=50, callbacks=[tfprune.Centripetal("macs:0.5")])
      >>> small = tfprune.shrink(model)

    Args:
      target: as in `tfprune.prune`, but not in bytes or latency.
      criterion: as in `tfprune.prune`: which channels stay.
      granularity: `"channel"`, with its options.
      allocation: as in `tfprune.prune`; the paper prunes all layers alike.
      end: when all of a cluster are the same, a step or an epoch such as `"8ep"`; three quarters of
        the training if None.
      data, loss, protect, min_keep, max_sparsity, round_to, seed: as in `tfprune.prune`.

    Raises:
      TypeError, ValueError: for a wrong word; when training begins, for a target that can't be
        met on the model.
    """

    async_safe = True

    def __init__(
        self,
        target: str | targets.Target,
        *,
        criterion: object = "kmeans",
        granularity: object = "channel",
        allocation: object = "uniform",
        end: int | str | None = None,
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
            correction="merge",  # refuses a granularity that is none of channels
            protect=protect,
            min_keep=min_keep,
            max_sparsity=max_sparsity,
            round_to=round_to,
            seed=seed,
        )
        if self._recipe.target.found:
            raise targets.not_for_training(self._recipe.target)
        if end is not None:
            schedules.steps(end, per_epoch=1)
        self._end, self._data, self._loss = end, data, loss

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Forms the clusters by the weights as they are now."""
        del logs
        claims.alone(self)
        model = self.model
        release(model)  # what a training that was stopped left
        recipe = frozen.spared(self._recipe, model)
        self._plan: ChannelPlan = recipe.bind(model, data=self._data, loss=self._loss)
        self._plan.check()
        self._masks = self._plan.masks()
        self._origin: int | None = None
        with model.distribute_strategy.scope():
            self._left = keras.Variable(1.0, trainable=False, dtype="float32", name="left")
            self._heirs = merging.nearest(self._plan, self._masks)
            self._drawn = _attach(self._plan, self._heirs, self._left)
        masks.retrace(model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Fixes where step 0 is, at the first epoch."""
        del logs
        if self._origin is None:
            per_epoch = moments.epoch_steps(self)
            self._origin = moments.iterations(self.model) - epoch * (per_epoch or 0)
            self._last = max(1, moments.last(self._end, self))

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets how far from their mean the channels of a cluster may be after this step."""
        del batch, logs
        step = moments.iterations(self.model) - self._origin + 1
        if step < self._last:
            self._left.assign(FINAL ** (step / self._last))
        elif float(self._left.numpy()):
            self._left.assign(0.0)
            self._draw()  # from here on they change alike, moving statistics as well

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds to history and TensorBoard what is left of the distance."""
        del epoch
        if logs is not None:
            logs["apart"] = float(self._left.numpy())

    def on_train_end(self, logs: dict | None = None) -> None:
        """Makes the channels of each cluster equal, merges them, and attaches the masks."""
        del logs
        if left := float(self._left.numpy()):
            log.warning(
                "training ended with %.2g of the distance between the channels of a cluster left, "
                "before the end given: they are merged now, without training after it",
                left,
            )
        self._left.assign(0.0)
        self._draw()  # also averages that the optimizer wrote over the weights
        release(self.model)
        variables, held = k.named(self.model), masks.of(self.model)
        for name, value in merging.merged(self._plan, self._heirs).items():
            variables[name].assign(value)
        masks.attach(self.model, {n: m & held.get(n, True) for n, m in self._masks.items()})

    def _draw(self) -> None:
        for variable, draw in self._drawn:
            variable.assign(draw(ops.convert_to_tensor(variable)))


class Draw(masks.Layered):
    """Holds the slices of each cluster at their mean, and at a share of their first distance."""

    def __init__(
        self,
        variable: keras.Variable,
        axis: int,
        cluster: np.ndarray,
        left: keras.Variable,
        inner: keras.constraints.Constraint | None,
    ) -> None:
        super().__init__(inner)
        self.axis, self.left = axis, left
        counts = np.maximum(np.bincount(cluster, minlength=len(cluster)), 1)
        self._cluster, self._counts = cluster, counts.astype(np.float32)
        value = ops.cast(ops.convert_to_tensor(variable), "float32")
        first = value - self._mean(value)
        self.first = keras.Variable(first, trainable=False, dtype="float32", name="first")

    def __call__(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `value` with the differences inside each cluster set to what is left of them."""
        value = super().__call__(value)
        mean = self._mean(ops.cast(value, "float32"))
        return ops.cast(mean + self.left.value * self.first.value, value.dtype)

    def _mean(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the mean of each slice's cluster in its place."""
        rows = ops.moveaxis(value, self.axis, 0)
        sums = ops.segment_sum(rows, self._cluster, num_segments=len(self._cluster))
        means = sums / ops.reshape(self._counts, (-1,) + (1,) * (len(rows.shape) - 1))
        return ops.moveaxis(ops.take(means, self._cluster, axis=0), 0, self.axis)


def _attach(
    plan: ChannelPlan, heirs: merging.Heirs, left: keras.Variable
) -> list[tuple[keras.Variable, Draw]]:
    """Puts a constraint on all that makes the channels, and returns (variable, constraint).

    Statistics, which no optimizer changes, are only returned.
    """
    clusters: dict[tuple[int, int], np.ndarray] = {}
    variables = {}
    for (group, _), (heir, _) in zip(plan.groups, heirs, strict=True):
        for member in group.made:
            variable, axis = member.slices.variable, member.slices.axis
            variables[id(variable)] = variable
            own = np.arange(variable.shape[axis])
            cluster = clusters.setdefault((id(variable), axis), own)
            cluster[member.positions] = merging.places(member, heir)
    drawn = []
    for (key, axis), cluster in clusters.items():
        variable = variables[key]
        draw = Draw(variable, axis, cluster, left, masks.below(variable))
        drawn.append((variable, draw))
        if variable.trainable:
            masks.put_below(variable, draw)
    return drawn


def release(model: keras.Model) -> None:
    """Takes the constraints off again; the user's own come back."""
    for variable in model.trainable_variables:
        while isinstance(draw := masks.below(variable), Draw):
            masks.put_below(variable, draw.inner)
    masks.retrace(model)
