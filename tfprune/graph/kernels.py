"""The kernels of a model: the variables that can be pruned, each seen in one canonical layout.

Canonical means `(*spatial, inputs, outputs)`, the layout of a Keras convolution, so that every
granularity and criterion is written once: a transposed convolution has its last axes swapped, a
depthwise kernel has one input and `channels * multiplier` outputs, an EinsumDense kernel is the
matrix from what its equation sums over to what it keeps.
"""

import dataclasses
import fnmatch
import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from tfprune import registry
from tfprune.graph import trace as tracing

Axes = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Kernel:
    """A prunable variable and the view that puts its axes in canonical order.

    Attributes:
      name: the variable's path, made unique within its model.
      layer: the layer that owns it.
      variable: the Keras variable.
      order: the variable's axes as (spatial, inputs, outputs).
    """

    name: str
    layer: keras.layers.Layer
    variable: keras.Variable
    order: tuple[Axes, Axes, Axes]

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape `(*spatial, inputs, outputs)`."""
        size = self.variable.shape
        spatial, inputs, outputs = self.order
        return (
            *(size[a] for a in spatial),
            math.prod(size[a] for a in inputs),
            math.prod(size[a] for a in outputs),
        )

    @property
    def size(self) -> int:
        """The number of weights."""
        return math.prod(self.variable.shape)

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """Returns `array`, of the variable's shape, in canonical layout."""
        return np.transpose(array, sum(self.order, ())).reshape(self.shape)

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Returns `array`, of canonical shape, in the variable's own layout."""
        axes = sum(self.order, ())
        moved = array.reshape([self.variable.shape[a] for a in axes])
        return np.transpose(moved, np.argsort(axes))

    def read(self) -> np.ndarray:
        """Returns the variable's present values in canonical layout.

        Raises:
          ValueError: if a value is NaN or infinite.
        """
        array = self.canonical(keras.ops.convert_to_numpy(self.variable))
        if not np.isfinite(array).all():
            raise ValueError(
                f"layer {self.layer.name!r}: {self.name} holds NaN or infinite weights; "
                "train it again or load another checkpoint before pruning"
            )
        return array


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Something that is left as it is, and why."""

    name: str
    reason: str


def _conv(layer: keras.layers.Layer) -> Iterator[tuple[keras.Variable, Axes, Axes, Axes]]:
    n = len(layer.kernel.shape) - 2
    yield layer.kernel, tuple(range(n)), (n,), (n + 1,)


def _conv_transpose(layer: keras.layers.Layer) -> Iterator[tuple]:
    n = len(layer.kernel.shape) - 2
    yield layer.kernel, tuple(range(n)), (n + 1,), (n,)


def _depthwise(layer: keras.layers.Layer) -> Iterator[tuple]:
    n = len(layer.kernel.shape) - 2
    yield layer.kernel, tuple(range(n)), (), (n, n + 1)


def _separable(layer: keras.layers.Layer) -> Iterator[tuple]:
    n = len(layer.depthwise_kernel.shape) - 2
    yield layer.depthwise_kernel, tuple(range(n)), (), (n, n + 1)
    yield layer.pointwise_kernel, tuple(range(n)), (n,), (n + 1,)


def _einsum(layer: keras.layers.Layer) -> Iterator[tuple]:
    operands, _, result = layer.equation.replace(" ", "").partition("->")
    labels = operands.split(",")[1].replace("...", "")
    summed = tuple(i for i, label in enumerate(labels) if label not in result)
    kept = tuple(i for i, label in enumerate(labels) if label in result)
    yield layer.kernel, (), summed, kept


def _embedding(layer: keras.layers.Layer) -> Iterator[tuple]:
    yield layer.embeddings, (), (0,), (1,)


def _recurrent(layer: keras.layers.Layer) -> Iterator[tuple]:
    yield layer.kernel, (), (0,), (1,)
    yield layer.recurrent_kernel, (), (0,), (1,)


_L = keras.layers
_RULES = {
    _L.Dense: _conv,
    _L.EinsumDense: _einsum,
    **dict.fromkeys((_L.Conv1D, _L.Conv2D, _L.Conv3D), _conv),
    **dict.fromkeys((_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose), _conv_transpose),
    **dict.fromkeys((_L.DepthwiseConv1D, _L.DepthwiseConv2D), _depthwise),
    **dict.fromkeys((_L.SeparableConv1D, _L.SeparableConv2D), _separable),
    _L.Embedding: _embedding,
    **dict.fromkeys((_L.LSTMCell, _L.GRUCell, _L.SimpleRNNCell), _recurrent),
}


def _rule(layer: keras.layers.Layer) -> object:
    return next((_RULES[c] for c in type(layer).__mro__ if c in _RULES), None)


def find(model: keras.Model) -> tuple[list[Kernel], list[Skipped]]:
    """Returns the prunable kernels of a built model, in the order of its weights, and the rest.

    What has two or more axes and trains, but belongs to a layer without a rule, is in the second
    list with its reason.

    Raises:
      ValueError: if the model is not built.
    """
    everything = tracing.layers(model)
    if not model.built or not model.weights:
        raise ValueError(f"model {model.name!r} has no weights yet: call it once on data first")
    found = {}
    for layer in everything:
        if layer.built and (rule := _rule(layer)):
            for variable, *order in rule(layer):
                found.setdefault(id(variable), (layer, variable, tuple(order)))
    kernels, skipped = [], []
    for name, variable in named(model).items():
        if id(variable) in found:
            layer, variable, order = found[id(variable)]  # noqa: PLW2901
            kernels.append(Kernel(name, layer, variable, order))
        elif variable.trainable and len(variable.shape) > 1:
            owners = [x for x in everything if any(variable is w for w in x.weights)]
            if not any(_rule(x) for x in owners):  # else it is a bias of more than one axis
                owner = min(owners, key=lambda x: len(x.weights))
                kind = type(owner).__name__
                skipped.append(Skipped(name, f"no pruning rule for a {kind} layer"))
    return kernels, skipped


def named(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns {name: variable} of all weights in order: their paths, made unique."""
    result, seen = {}, {}
    for variable in model.weights:
        again = seen[variable.path] = seen.get(variable.path, 0) + 1
        result[variable.path if again == 1 else f"{variable.path}#{again}"] = variable
    return result


def protected(kernels: Sequence[Kernel], patterns: Sequence[str]) -> list[bool]:
    """Returns for each kernel whether a layer name, variable path or glob pattern protects it.

    Raises:
      ValueError: for a pattern that matches nothing.
    """
    return matching([(kernel.layer.name, kernel.name) for kernel in kernels], patterns)


def matching(variables: Sequence[tuple[str, str]], patterns: Sequence[str]) -> list[bool]:
    """Returns for each (layer name, variable path) whether one of the patterns protects it.

    Raises:
      ValueError: for a pattern that matches nothing.
    """
    if isinstance(patterns, str):
        patterns = (patterns,)
    names = [(layer, path, *path.split("/")[:-1]) for layer, path in variables]
    result = [False] * len(names)
    for pattern in patterns:
        found = [any(fnmatch.fnmatchcase(part, pattern) for part in parts) for parts in names]
        if not any(found):
            raise registry.unknown("layer to protect", pattern, {layer for layer, _ in variables})
        result = [a or b for a, b in zip(result, found, strict=True)]
    return result


# What these layers keep beside their parameters is measured from data, not trained.
_STATISTICS = (keras.layers.BatchNormalization, keras.layers.Normalization)


def parameters(model: keras.Model) -> int:
    """Returns the number of parameters: all weights but the statistics of normalisation layers."""
    return sum(math.prod(w.shape) for w in counted(model))


def counted(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that count as parameters."""
    statistics = {
        id(weight)
        for layer in tracing.layers(model)
        if isinstance(layer, _STATISTICS)
        for weight in layer.non_trainable_weights
        if weight.name in ("moving_mean", "moving_variance", "mean", "variance", "count")
    }
    return [w for w in model.weights if id(w) not in statistics]
