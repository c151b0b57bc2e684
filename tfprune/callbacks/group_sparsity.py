"""`GroupSparsity`: drives whole coupled channels towards zero, for pruning to take them after."""

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from tfprune import masks, registry
from tfprune.graph import kernels as k
from tfprune.graph.channels import Channels, Group, Member

log = logging.getLogger("tfprune")

# A channel counts as zero where its norm is below this share of its group's largest.
NEAR_ZERO = 1e-3


class GroupSparsity(keras.callbacks.Callback):
    """Adds a penalty on coupled channels to the training loss, which tells them apart.

    The penalty is strength * sum over groups and their channels of factor * measure; what a
    channel carries are all trainable weights that make, pass or read it, biases too, so that it
    can vanish whole. Its gradient reaches them inside the compiled train step, under any
    optimizer. As with any Keras regularizer the losses that `fit` shows include it, and so does
    `group_penalty` in the logs. Nothing of it stays in the model when training ends.

    Where it shrinks weights fast, the moving statistics of batch normalisations lag behind, and
    accuracy in inference falls while that in training does not: `tfprune.reestimate_batchnorm`, or
    `data` of `tfprune.prune`, sets them right.

    Example:
      >>> model.fit(train, epochs=50, callbacks=[tfprune.GroupSparsity()])
      >>> pruned = tfprune.prune(model, "macs:0.5", granularity="channel")

    Args:
      kind: `"growing_l2"`, see `growing`; `"group_lasso"`, see `root_size`; `"bn_l1"`, the sum of
        |gamma| of the batch normalisations (Network Slimming, Liu et al. 2017, arXiv 1708.06519).
      strength: what the sum is multiplied by. If None, 5e-4 for growing_l2 (what DepGraph's
        authors use on CIFAR), 1e-4 for group_lasso (SGD at a rate of 0.1 and momentum 0.9 takes a
        channel that nothing holds to zero in some thousand steps) and 1e-4 for bn_l1 (the paper's
        for VGG; 1e-5 for its ResNets). Shorter trainings and lower rates need more.
      alpha: of growing_l2; the others have none.
      protect: names or glob patterns of layers. Groups that they make or pass are left out, and
        what they read with.

    Raises:
      ValueError: for a wrong kind or number; when training begins, for a model whose channels
        can't be followed, a pattern that matches nothing, or where nothing is left to regularise.
    """

    async_safe = True

    def __init__(
        self,
        kind: str = "growing_l2",
        *,
        strength: float | None = None,
        alpha: float = 4.0,
        protect: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise registry.unknown("kind of group sparsity", kind, KINDS)
        self.kind = kind
        self.strength = KINDS[kind].strength if strength is None else strength
        for name, value in (("strength", self.strength), ("alpha", alpha)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r}: a number above 0 is needed")
        self._alpha, self._protect = alpha, protect
        self._groups: list[Group] = []
        self._factors: list[keras.Variable] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Attaches the penalty to the model's first trainable variable."""
        del logs
        model, kind = self.model, KINDS[self.kind]
        self._groups = _groups(model, kind, self._protect)
        with model.distribute_strategy.scope():
            self._factors = [
                keras.Variable(np.ones(len(g)), trainable=False, dtype="float32", name="factor")
                for g in self._groups
            ]
        self._carrier = model.trainable_variables[0]
        _attach(self._carrier, self.kind, self.penalty)
        _retrace(model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Computes the factors from the weights as they are now."""
        del epoch, logs
        for group, variable in zip(self._groups, self._factors, strict=True):
            variable.assign(KINDS[self.kind].factor(group, self._alpha))

    def penalty(self) -> keras.KerasTensor:
        """Returns what is added to the loss, a scalar."""
        measure = KINDS[self.kind].measure
        pairs = zip(self._groups, self._factors, strict=True)
        return self.strength * sum(ops.sum(factor * measure(group)) for group, factor in pairs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the penalty's value to history and TensorBoard."""
        del epoch
        if logs is not None:
            logs["group_penalty"] = float(ops.convert_to_numpy(self.penalty()))

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the penalty off, and says what came of it."""
        del logs
        _detach(self._carrier, self.kind)
        _retrace(self.model)
        norms = [np.sqrt(ops.convert_to_numpy(_squares(group))) for group in self._groups]
        small = sum(int((x < NEAR_ZERO * x.max()).sum()) for x in norms)
        log.info(
            "GroupSparsity(%r): %d of %d channels are below %g of their group's largest",
            self.kind,
            small,
            sum(len(x) for x in norms),
            NEAR_ZERO,
        )


def growing(group: Group, alpha: float) -> np.ndarray:
    """Returns 2^(alpha (I_max - I_k) / (I_max - I_min)) of each channel, (channels,).

    I_k is the L2 norm of all that the channel carries, so that of unequal channels the least
    shrinks 2^alpha times as fast as the greatest; 1 where all are equal. With the measure half
    the square of that norm, the gradient is strength * factor * w. DepGraph's sparse training
    (Fang et al. 2023, arXiv 2301.12900, where alpha is 4), in the form of the authors' code.
    """
    norms = np.sqrt(ops.convert_to_numpy(_squares(group)))
    spread = norms.max() - norms.min()
    return 2 ** (alpha * (norms.max() - norms) / (spread or 1.0))


def root_size(group: Group, alpha: float) -> np.ndarray:
    """Returns the square root of how many weights each channel carries, (channels,).

    With the measure their L2 norm, this is group lasso (Yuan & Lin 2006), over all that belongs
    to a channel (structured sparsity learning, Wen et al. 2016, arXiv 1608.03665).
    """
    del alpha
    return np.sqrt(sum(member.weights(len(group)) for member in group.members))


def _ones(group: Group, alpha: float) -> np.ndarray:
    del alpha
    return np.ones(len(group))


def _along(group: Group, function: Callable) -> keras.KerasTensor:
    """Returns the sum of `function` of every weight that each channel carries, (channels,)."""
    total = ops.zeros(len(group), "float32")
    for member in group.members:
        value = function(ops.cast(member.slices.variable, "float32"))
        others = [i for i in range(len(value.shape)) if i != member.slices.axis]
        along = ops.take(ops.sum(value, axis=others), member.positions, axis=0)
        total += ops.segment_sum(along, member.index, num_segments=len(group))
    return total


def _squares(group: Group) -> keras.KerasTensor:
    return _along(group, ops.square)


def _half_squares(group: Group) -> keras.KerasTensor:
    return _squares(group) / 2


def _norms(group: Group) -> keras.KerasTensor:
    squares = _squares(group)
    positive = squares > 0  # the root's gradient at zero is infinite: a channel there rests
    return ops.where(positive, ops.sqrt(ops.where(positive, squares, 1.0)), 0.0)


def _absolutes(group: Group) -> keras.KerasTensor:
    return _along(group, ops.abs)


def _everything(member: Member) -> bool:
    del member
    return True


def _scale(member: Member) -> bool:
    layer = member.slices.layer
    return (
        isinstance(layer, keras.layers.BatchNormalization) and member.slices.variable is layer.gamma
    )


@dataclasses.dataclass(frozen=True)
class Kind:
    """A penalty: the sum of factor * measure over the channels, of the members that it reads."""

    strength: float
    measure: Callable[[Group], keras.KerasTensor]
    factor: Callable[[Group, float], np.ndarray]
    reads: Callable[[Member], bool] = _everything


KINDS = {
    "growing_l2": Kind(5e-4, _half_squares, growing),
    "group_lasso": Kind(1e-4, _norms, root_size),
    "bn_l1": Kind(1e-4, _absolutes, _ones, _scale),
}

Term = Callable[[], keras.KerasTensor]


class _Penalised:
    """A regularizer that adds penalties on other variables to its variable's own."""

    def __init__(self, own: Callable | None) -> None:
        self.own = own
        self.terms: dict[str, Term] = {}

    def __call__(self, value: keras.KerasTensor) -> keras.KerasTensor:
        losses = [term() for term in self.terms.values()]
        if self.own is not None:
            losses.append(self.own(value))
        return ops.cast(sum(ops.cast(x, "float32") for x in losses), keras.config.floatx())


def _attach(carrier: keras.Variable, kind: str, term: Term) -> None:
    """Adds a term to a variable's regularizer; one of this kind, left by a stop, is replaced."""
    if not isinstance(carrier.regularizer, _Penalised):
        carrier.regularizer = _Penalised(carrier.regularizer)
    carrier.regularizer.terms[kind] = term


def _detach(carrier: keras.Variable, kind: str) -> None:
    """Takes the term off again; after the last one the variable has its own regularizer back."""
    if isinstance(carrier.regularizer, _Penalised):
        carrier.regularizer.terms.pop(kind, None)
        if not carrier.regularizer.terms:
            carrier.regularizer = carrier.regularizer.own


def _groups(model: keras.Model, kind: Kind, protect: Sequence[str]) -> list[Group]:
    """Returns the groups that are regularised, each with the members that the kind reads."""
    everything = Channels(model).groups()
    slices = list({m.slices for g in everything for m in g.members})
    matched = k.matching([(x.layer.name, x.variable.path) for x in slices], protect)
    shielded = {x for x, flag in zip(slices, matched, strict=True) if flag}
    trainable = {id(v) for v in model.trainable_variables}
    found, reasons = [], []
    for group in everything:
        members = [
            m
            for m in group.members
            if id(m.slices.variable) in trainable and m.slices not in shielded and kind.reads(m)
        ]
        reason = group.frozen
        if not reason and any(m.slices in shielded for m in group.made):
            reason = "protected"
        if not reason and not members:
            reason = "no trainable weight of this kind"
        if reason:
            reasons.append(f"{group.name}: {reason}")
            log.info("channels of %s are not regularised: %s", group.name, reason)
        else:
            found.append(dataclasses.replace(group, members=members))
    if not found:
        raise ValueError(
            f"model {model.name!r} has no channels to regularise "
            f"({'; '.join(reasons[:5]) or 'no layer makes channels that could be removed'})"
        )
    return found


def _retrace(model: keras.Model) -> None:
    """Has the train and test steps traced again: regularizers are read when they are traced."""
    masks.retrace(model)
    if getattr(model, "test_function", None) is not None:
        model.make_test_function(force=True)
