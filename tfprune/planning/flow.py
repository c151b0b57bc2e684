"""A model's forward pass in which some kernels have other weights in each of many arms.

A batch runs up to the first such kernel once. There it splits into a copy for each arm: operations
with a masked kernel are called once for each, with its weights replaced by a `keras.StatelessScope`
(no weight of the model is ever set), and what follows runs on all copies as one wide batch.

A pass goes from operation to operation, each compiled once for all layers that are tried: to trace
what follows a layer as a whole, for every layer, takes longer than all trials of a bandit.
"""

import inspect
import math
import weakref
from collections.abc import Callable, Hashable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfprune.calibration import Calibration
from tfprune.graph import trace as tracing
from tfprune.graph.kernels import Kernel

# {id of a symbolic tensor: its value}
Values = dict[int, tf.Tensor]


class Operations:
    """The operations of a model's graph, of which the last returns the loss of each example.

    Args:
      calibration: the model and the loss.
      graph: of the model.
      read: what the model is called with -> the values of the graph's inputs.

    Attributes:
      graph, read: as given.
      labels: what the last operation takes besides. Loss and output are computed in one, as Keras
        takes a cross-entropy from what goes into a softmax if it sees both.
    """

    def __init__(
        self,
        calibration: Calibration,
        graph: tracing.Graph,
        read: Callable[[object], Sequence[tf.Tensor]],
    ) -> None:
        self.graph, self.read = graph, read
        self.labels = keras.KerasTensor((None,))
        self._calibration = weakref.proxy(calibration)  # which these operations go with
        self._compiled: dict[Hashable, Callable[..., list[tf.Tensor]]] = {}

    def is_last(self, node: tracing.Node) -> bool:
        """Returns whether the model's output comes from this operation."""
        return any(tensor is self.graph.outputs[0] for tensor in node.outputs)

    def inputs(self, node: tracing.Node) -> tuple[keras.KerasTensor, ...]:
        """Returns all that an operation takes."""
        return (*node.inputs, self.labels) if self.is_last(node) else node.inputs

    def call(self, node: tracing.Node, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns what an operation gives for these inputs, in inference mode."""
        values = dict(zip(map(id, self.inputs(node)), tensors, strict=True))
        args, kwargs = keras.tree.map_structure(
            lambda part: values[id(part)] if isinstance(part, keras.KerasTensor) else part,
            (node.args, dict(node.kwargs)),
        )
        if "training" in inspect.signature(node.operation.call).parameters:
            kwargs["training"] = False
        found = keras.tree.flatten(node.operation(*args, **kwargs))
        if not self.is_last(node):
            return found
        output = self.graph.outputs[0]
        pairs = zip(node.outputs, found, strict=True)
        return [self._calibration.judged(tensors[-1], v) if t is output else v for t, v in pairs]

    def compiled(
        self, key: Hashable, function: Callable[..., list[tf.Tensor]], *tensors: tf.Tensor
    ) -> list[tf.Tensor]:
        """Returns `function(*tensors)`, compiled under this key for any size of first axes."""
        key = (key, *((tuple(t.shape[1:]), t.dtype) for t in tensors))
        if key not in self._compiled:
            spec = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in tensors]
            traced = tf.function(function, autograph=False)
            self._compiled[key] = traced.get_concrete_function(*spec)
        return self._compiled[key](*tensors)


_known: weakref.WeakKeyDictionary[Calibration, Operations] = weakref.WeakKeyDictionary()


def operations(calibration: Calibration, x: object) -> Operations:
    """Returns the operations of a model, the same ones whenever it is asked for them."""
    if calibration not in _known:
        model = calibration.model
        hides = any(  # Keras hangs such masks on tensors, where they are lost between operations
            isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
            for layer in tracing.layers(model)
        )
        if hides or not tracing.is_graph(model):
            return whole(calibration, x)
        graph = tracing.graph(model)
        # Keras brings what a model is called with into the form of its inputs.
        entry = keras.Model(tracing.inputs(model), list(graph.inputs))
        _known[calibration] = Operations(calibration, graph, lambda x: keras.tree.flatten(entry(x)))
    return _known[calibration]


def whole(calibration: Calibration, x: object) -> Operations:
    """Returns a model as a single operation, called with what is like `x`, from now on."""
    inputs = keras.tree.map_structure(lambda part: keras.KerasTensor(part.shape, part.dtype), x)
    ends, output = tuple(keras.tree.flatten(inputs)), keras.KerasTensor((None,))
    node = tracing.Node(calibration.model, (inputs,), {}, ends, (output,))
    graph = tracing.Graph(ends, (output,), (node,))
    _known[calibration] = Operations(
        calibration, graph, lambda x: [tf.convert_to_tensor(part) for part in keras.tree.flatten(x)]
    )
    return _known[calibration]


class Flow:
    """A model in two parts: what runs before some kernels, and what depends on them.

    Args:
      operations: of the model.
      kernels: whose weights are masked.

    Attributes:
      largest: the size of the largest tensor that was seen.
    """

    def __init__(self, operations: Operations, kernels: Sequence[Kernel]) -> None:
        self._operations = operations
        self._before: list[tracing.Node] = []
        # With the kernels inside each, and the tensors that there is one of for each arm.
        self._after: dict[tracing.Node, list[Kernel]] = {}
        self._wide: set[int] = set()
        self.largest = 1
        for node in operations.graph.nodes:
            weights = {id(w) for w in getattr(node.operation, "weights", ())}
            own = [kernel for kernel in kernels if id(kernel.variable) in weights]
            late = own or any(id(tensor) in self._wide for tensor in node.inputs)
            if late or operations.is_last(node):
                self._after[node] = own
                self._wide.update(map(id, node.outputs))
            else:
                self._before.append(node)

    def start(self, x: object) -> Values:
        """Returns the values that `end` begins with."""
        inputs = self._operations.graph.inputs
        values = dict(zip(map(id, inputs), self._operations.read(x), strict=True))
        ends = {id(tensor) for node in self._after for tensor in node.inputs}
        self._run(self._before, values, ends, lambda node: self._together(node, values, 1))
        return {key: value for key, value in values.items() if key in ends}

    def end(
        self, start: Values, y: np.ndarray, masks: dict[str, np.ndarray], count: int
    ) -> tf.Tensor:
        """Returns the loss of each example in each arm, (arms * examples,).

        Args:
          start: what `start` returned, or some rows of all of it.
          y: the labels of these rows.
          masks: {kernel name: what stays in each arm}; other kernels are as they are.
          count: the number of arms.
        """
        values = start | {id(self._operations.labels): tf.convert_to_tensor(y)}

        def run(node: tracing.Node) -> list[tf.Tensor]:
            own = [kernel for kernel in self._after[node] if kernel.name in masks]
            if own:
                return self._one_by_one(node, own, masks, values, count)
            return self._together(node, values, count)

        output = id(self._operations.graph.outputs[0])
        self._run(list(self._after), values, {output}, run)
        return values[output]

    def _together(self, node: tracing.Node, values: Values, count: int) -> list[tf.Tensor]:
        """Calls an operation on all arms together."""
        tensors = self._operations.inputs(node)
        inputs = [values[id(t)] for t in tensors]
        if count > 1:
            pairs = zip(tensors, inputs, strict=True)
            inputs = [v if id(t) in self._wide else tf.concat([v] * count, 0) for t, v in pairs]
        return self._operations.compiled(
            node, lambda *tensors: self._operations.call(node, tensors), *inputs
        )

    def _one_by_one(
        self,
        node: tracing.Node,
        own: Sequence[Kernel],
        masks: dict[str, np.ndarray],
        values: Values,
        count: int,
    ) -> list[tf.Tensor]:
        """Calls an operation once for each arm, with the arm's weights."""

        def call(*tensors: tf.Tensor) -> list[tf.Tensor]:
            inputs, weights = tensors[: -len(own)], tensors[-len(own) :]
            replaced = [
                (kernel.variable, tf.ensure_shape(value, kernel.variable.shape))
                for kernel, value in zip(own, weights, strict=True)
            ]
            with keras.StatelessScope(state_mapping=replaced):
                return self._operations.call(node, inputs)

        parts = [
            tf.split(values[id(t)], count) if id(t) in self._wide else [values[id(t)]] * count
            for t in self._operations.inputs(node)
        ]
        for kernel in own:
            stay = np.stack([kernel.restore(mask) for mask in masks[kernel.name]])
            kept = kernel.variable.value * tf.cast(stay, kernel.variable.dtype)
            parts.append(tf.unstack(kept))
        found = [
            self._operations.compiled((node, *own), call, *tensors)
            for tensors in zip(*parts, strict=True)
        ]
        return [tf.concat(arms, 0) for arms in zip(*found, strict=True)]

    def _run(
        self,
        nodes: Sequence[tracing.Node],
        values: Values,
        ends: set[int],
        run: Callable[[tracing.Node], list[tf.Tensor]],
    ) -> None:
        """Adds to `values` what operations give; what is no end goes when it is used up."""
        last = {id(tensor): node for node in nodes for tensor in node.inputs}
        for node in nodes:
            found = run(node)
            values.update(zip(map(id, node.outputs), found, strict=True))
            self.largest = max(self.largest, *(math.prod(value.shape) for value in found))
            for tensor in node.inputs:
                if last[id(tensor)] is node and id(tensor) not in ends:
                    values.pop(id(tensor), None)
