"""Masks: attached to a model's kernels, they keep pruned weights at zero while it trains.

A mask sits in `variable.constraint`, which Keras applies inside the compiled train step after
every update of the optimizer. No wrapper, nothing to strip: the saved file is a plain Keras model.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from tfprune.graph import kernels as k

Masks = Mapping[str, np.ndarray]


class MaskConstraint(keras.constraints.Constraint):
    """Applies the user's own constraint first, then zeroes what the mask prunes."""

    def __init__(self, variable: keras.Variable) -> None:
        self.inner = variable.constraint
        self.mask = keras.Variable(
            np.ones(variable.shape, bool), trainable=False, dtype="bool", name="mask"
        )

    def __call__(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `value` with the pruned weights at zero."""
        if self.inner is not None:
            value = self.inner(value)
        # `where`, not a product: a masked weight that became infinite must still be zero.
        return keras.ops.where(self.mask.value, value, keras.ops.zeros_like(value))


def attach(model: keras.Model, kernels: Sequence[k.Kernel], masks: Masks) -> None:
    """Sets the masks of `kernels` and zeroes their pruned weights at once.

    Kernels without a mask yet get one; those that have one get the new values, which a compiled
    train step sees without being traced again.

    Args:
      model: the model that the kernels belong to.
      kernels: the kernels to mask.
      masks: {kernel name: bool array of the variable's shape}.
    """
    fresh = False
    with model.distribute_strategy.scope():
        for kernel in kernels:
            variable = kernel.variable
            if not isinstance(variable.constraint, MaskConstraint):
                variable.constraint = MaskConstraint(variable)
                fresh = True
            variable.constraint.mask.assign(masks[kernel.name])
    if fresh:
        _retrace(model)
    apply(kernels)


def apply(kernels: Sequence[k.Kernel]) -> None:
    """Zeroes every pruned weight of the kernels now."""
    for kernel in kernels:
        constraint = kernel.variable.constraint
        if isinstance(constraint, MaskConstraint):
            mask = keras.ops.convert_to_numpy(constraint.mask)
            value = keras.ops.convert_to_numpy(kernel.variable)
            if value[~mask].any():
                kernel.variable.assign(np.where(mask, value, np.zeros((), value.dtype)))


def detach(model: keras.Model) -> None:
    """Removes the masks: zeros stay until the next training, the user's constraints come back."""
    for kernel in k.find(model)[0]:
        if isinstance(kernel.variable.constraint, MaskConstraint):
            kernel.variable.constraint = kernel.variable.constraint.inner
    _retrace(model)


def of(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns {kernel name: bool mask of the variable's shape} of the masks that are attached."""
    return {
        kernel.name: keras.ops.convert_to_numpy(kernel.variable.constraint.mask)
        for kernel in k.find(model)[0]
        if isinstance(kernel.variable.constraint, MaskConstraint)
    }


def hold_zeros(model: keras.Model) -> None:
    """Attaches masks that keep the zeros that the kernels of `model` have now."""
    kernels, _ = k.find(model)
    attach(model, kernels, of_zeros(kernels))


def of_zeros(kernels: Sequence[k.Kernel]) -> dict[str, np.ndarray]:
    """Returns {kernel name: bool mask of the variable's shape} of what is not zero now."""
    return {x.name: keras.ops.convert_to_numpy(x.variable) != 0 for x in kernels}


def _retrace(model: keras.Model) -> None:
    """Has the train step traced again: constraints are read when it is traced."""
    if getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)
