"""Taps: what stands between the gradient of a variable and the optimizer.

Keras calls `optimizer.update_step(gradient, variable, learning_rate)` for every variable inside
the compiled train step, with the gradient as it is to be used: summed over replicas, averaged over
accumulated steps, unscaled and clipped. A tap sees it before the optimizer does, and the weight
after, under any optimizer, policy and strategy. Nothing of it stays when it is taken off.
"""

import functools
from collections.abc import Callable, Mapping

import keras
from keras import ops

from tfprune import masks
from tfprune.graph import kernels as k


class Tap:
    """Passes everything on; what it keeps from step to step is in `memory`.

    Attributes:
      variable: the weights, whose constraint is their mask.
      memory: {name: Keras variable}, saved and restored with the training.
    """

    def __init__(self, variable: keras.Variable) -> None:
        self.variable = variable
        self.memory: dict[str, keras.Variable] = {}

    def keep(self, name: str, value: object, dtype: str = "float32") -> None:
        """Adds a variable to the memory."""
        self.memory[name] = keras.Variable(value, trainable=False, dtype=dtype, name=name)

    @property
    def mask(self) -> keras.KerasTensor:
        """The mask as it is now, of the variable's shape."""
        return self.variable.constraint.mask.value

    def masked(self, value: keras.KerasTensor) -> keras.KerasTensor:
        """Returns `value` with zeros where the mask prunes."""
        return ops.where(self.mask, value, ops.zeros_like(value))

    def before(
        self, gradient: keras.KerasTensor, weight: keras.KerasTensor, rate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the gradient that the optimizer is to see."""
        del weight, rate
        return gradient

    def after(self, weight: keras.KerasTensor) -> keras.KerasTensor:
        """Returns what the optimizer's new weight becomes."""
        return weight

    def refresh(self) -> None:
        """Sets the weight to what it is under a new mask, where masked weights live on."""


class Sparse(Tap):
    """Keeps the optimizer's momenta of pruned weights empty, so that a regrown one starts anew."""

    def before(
        self, gradient: keras.KerasTensor, weight: keras.KerasTensor, rate: keras.KerasTensor
    ) -> keras.KerasTensor:
        """Returns the gradient of the weights that are there."""
        del weight, rate
        return self.masked(gradient)


class Latent(Tap):
    """Keeps what the weights would be without a mask; the model computes with the masked ones.

    What the optimizer does to the weights is done to these: to all of them (the straight-through
    estimator), or to those that are there.
    """

    def __init__(self, variable: keras.Variable, *, through: bool) -> None:
        super().__init__(variable)
        self._through = through
        self.keep("latent", ops.convert_to_tensor(variable))

    def seen(self) -> keras.KerasTensor:
        """Returns the weights that the model computes with."""
        return self.masked(self.memory["latent"].value)

    def after(self, weight: keras.KerasTensor) -> keras.KerasTensor:
        """Moves the latent weights as the optimizer moved those seen."""
        moved = weight - self.seen()
        self.memory["latent"].value.assign_add(moved if self._through else self.masked(moved))
        return self.seen()

    def refresh(self) -> None:
        """Sets the weights to those seen."""
        self.variable.assign(self.seen())


def attach(model: keras.Model, taps: Mapping[str, Tap]) -> None:
    """Puts taps, {name as in `kernels.named`: tap}, before the model's optimizer.

    Others go, such as those of a training that was stopped and could not take them off.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    changed = vars(optimizer).pop("update_step", None) is not None
    if taps:
        optimizer.update_step = _tapped(optimizer, model, taps)
    if taps or changed:
        masks.retrace(model)


def detach(model: keras.Model) -> None:
    """Takes the taps off again."""
    attach(model, {})


def _tapped(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, taps: Mapping[str, Tap]
) -> Callable:
    """Returns `optimizer.update_step` with the taps before and after it."""
    variables, own = k.named(model), optimizer.update_step

    @functools.cache
    def by_place() -> dict[int, Tap]:  # known when the optimizer is built
        place = optimizer._get_variable_index
        return {place(variables[n]): tap for n, tap in taps.items() if variables[n].trainable}

    def update_step(gradient: object, variable: object, learning_rate: object) -> None:
        tap = by_place().get(optimizer._get_variable_index(variable))
        if tap is None:
            own(gradient, variable, learning_rate)
            return
        dense = ops.convert_to_tensor(gradient)  # that of an embedding names its rows
        weight = ops.convert_to_tensor(variable)
        own(tap.before(dense, weight, learning_rate), variable, learning_rate)
        variable.assign(tap.after(ops.convert_to_tensor(variable)))

    return update_step
