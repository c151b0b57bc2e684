"""Masks: attached to a model's kernels, they keep pruned weights at zero while it trains.

A mask sits in `variable.constraint`, which Keras applies inside the compiled train step after
every update of the optimizer. No wrapper, nothing to strip: the saved file is a plain Keras model.
"""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.graph import kernels as k

Masks = Mapping[str, np.ndarray]


class Layered(keras.constraints.Constraint):
    """Lies above the constraint that a variable had, `inner`, and applies it first."""

    def __init__(self, inner: Callable | None) -> None:
        self.inner = inner

    def __call__(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `value` as the constraint below leaves it."""
        return value if self.inner is None else self.inner(value)


class MaskConstraint(Layered):
    """Applies the constraint below first, then zeroes what the mask prunes."""

    def __init__(self, variable: keras.Variable) -> None:
        super().__init__(variable.constraint)
        self.mask = keras.Variable(
            np.ones(variable.shape, bool), trainable=False, dtype="bool", name="mask"
        )

    def __call__(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `value` with the pruned weights at zero."""
        value = super().__call__(value)
        # `where`, not a product: a masked weight that became infinite must still be zero.
        return keras.ops.where(self.mask.value, value, keras.ops.zeros_like(value))


def below(variable: keras.Variable) -> Callable | None:
    """Returns the constraint that lies under a variable's mask; its own, if it has no mask."""
    constraint = variable.constraint
    return constraint.inner if isinstance(constraint, MaskConstraint) else constraint


def put_below(variable: keras.Variable, constraint: Callable | None) -> None:
    """Sets the constraint that `below` returns."""
    if isinstance(variable.constraint, MaskConstraint):
        variable.constraint.inner = constraint
    else:
        variable.constraint = constraint


def attach(model: keras.Model, masks: Masks) -> None:
    """Sets the masks of some of a model's weights and zeroes what they prune at once.

    Weights without a mask yet get one; those that have one get the new values, which a compiled
    train step sees without being traced again.

    Args:
      model: the model that the weights belong to.
      masks: {name as in `tfprune.graph.kernels.named`: bool array of the variable's shape}.
    """
    fresh = False
    variables = k.named(model)
    masks = _agreed(model.distribute_strategy, masks)
    with model.distribute_strategy.scope():
        for name, mask in masks.items():
            variable = variables[name]
            if not isinstance(variable.constraint, MaskConstraint):
                variable.constraint = MaskConstraint(variable)
                fresh = True
            variable.constraint.mask.assign(mask)
    if fresh:
        retrace(model)
    for name, mask in masks.items():
        zero(variables[name], mask)


def _agreed(strategy: tf.distribute.Strategy, masks: Masks) -> Masks:
    """Returns the first worker's masks, where several processes train the model together.

    All choose by the same weights, but scores from data may differ in their last digit from one
    machine to another, and one mask that differs would have their weights drift apart.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or sum(map(len, resolver.cluster_spec().as_dict().values())) < 2:
        return masks
    with strategy.scope():  # variables start as the first worker's
        return {name: tf.Variable(mask, trainable=False).numpy() for name, mask in masks.items()}


def apply(model: keras.Model) -> None:
    """Zeroes every pruned weight of the model now."""
    variables = k.named(model)
    for name, mask in of(model).items():
        zero(variables[name], mask)


def zero(variable: keras.Variable, mask: np.ndarray) -> None:
    """Zeroes once what the mask prunes."""
    value = keras.ops.convert_to_numpy(variable)
    if value[~mask].any():
        variable.assign(np.where(mask, value, np.zeros((), value.dtype)))


def detach(model: keras.Model) -> None:
    """Removes masks and sharing; the user's own constraints come back.

    Zeros and shared values stay until the next training.
    """
    for variable in model.weights:
        while isinstance(variable.constraint, Layered):
            variable.constraint = variable.constraint.inner
    retrace(model)


def of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns {name: bool mask of the variable's shape} of the masks that are attached."""
    return {
        name: keras.ops.convert_to_numpy(variable.constraint.mask)
        for name, variable in k.named(model).items()
        if isinstance(variable.constraint, MaskConstraint)
    }


def hold_zeros(model: keras.Model) -> None:
    """Attaches masks that keep the zeros that the kernels of `model` have now."""
    attach(model, of_zeros(k.find(model)[0]))


def of_zeros(kernels: Sequence[k.Kernel]) -> dict[str, np.ndarray]:
    """Returns {name: bool mask of the variable's shape} of what is not zero now."""
    return {x.name: keras.ops.convert_to_numpy(x.variable) != 0 for x in kernels}


def retrace(model: keras.Model) -> None:
    """Has the train step traced again: constraints are read when it is traced."""
    if getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)
