"""Every call of every layer, with the shapes and tensors that pass, for any kind of Keras model."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of one layer in the forward pass of a single example.

    `inputs` and `outputs` are the symbolic tensors; a producer and its consumer share the object.
    """

    layer: keras.layers.Layer
    inputs: tuple[tf.Tensor, ...]
    outputs: tuple[tf.Tensor, ...]


def layers(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns `model` and every layer inside it, at any depth, each once, in order of creation.

    Keras has no public walk that enters attention, recurrent cells and wrappers, so this is the
    one place that calls the private one.
    """
    return model._flatten_layers()


def inputs(model: keras.Model) -> object:
    """Returns the symbolic inputs of a functional or sequential model, as it takes them."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def example_spec(
    model: keras.Model, input_shape: object = None
) -> dict | list | tuple | tf.TensorSpec:
    """Returns TensorSpecs of one example, batch axis 1, in the structure `model` takes.

    Args:
      model: a built model.
      input_shape: a shape without the batch axis, where the model leaves sizes open.

    Raises:
      ValueError: if the model is not built, or a size is open and not given.
    """

    def tensor_spec(tensor: keras.KerasTensor) -> tf.TensorSpec:
        size = tensor.shape[1:] if input_shape is None else tuple(input_shape)
        if None in size:
            raise ValueError(
                f"model {model.name!r} leaves its input size open ({tensor.shape[1:]}): "
                "build it with a fixed input size"
            )
        return tf.TensorSpec((1, *size), tensor.dtype)

    if getattr(model, "inputs", None):
        return keras.tree.map_structure(tensor_spec, inputs(model))
    # A subclassed model has no symbolic inputs, but remembers the shape it was built for.
    shape = (model.get_build_config() or {}).get("input_shape") or (None, *(input_shape or ()))
    if len(shape) == 1:
        raise ValueError(
            f"model {model.name!r} has no known input shape: call it once on data first"
        )
    return tensor_spec(keras.KerasTensor(shape))


@contextlib.contextmanager
def calls(around: Callable[[Callable, keras.layers.Layer, tuple, dict], object]) -> Iterator[None]:
    """Has `around(call, layer, args, kwargs)` make every layer call inside the block."""
    original = keras.layers.Layer.__call__

    @functools.wraps(original)
    def call(self: keras.layers.Layer, *args: object, **kwargs: object) -> object:
        return around(original, self, args, kwargs)

    keras.layers.Layer.__call__ = call
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


@contextlib.contextmanager
def recorded(found: list[Call]) -> Iterator[None]:
    """Appends each layer call made inside the block to `found`, innermost first."""

    def around(call: Callable, layer: keras.layers.Layer, args: tuple, kwargs: dict) -> object:
        outputs = call(layer, *args, **kwargs)
        found.append(Call(layer, _tensors((args, kwargs)), _tensors(outputs)))
        return outputs

    with calls(around):
        yield


def _tensors(structure: object) -> tuple[tf.Tensor, ...]:
    return tuple(x for x in keras.tree.flatten(structure) if isinstance(x, tf.Tensor))


def trace(model: keras.Model, input_shape: object = None) -> list[Call]:
    """Returns the layer calls of one inference pass on one example, inner calls before outer ones.

    The pass is traced, not computed. It works for functional, sequential, nested and subclassed
    models alike, since it watches `Layer.__call__` rather than reading a graph.
    """
    found: list[Call] = []
    with recorded(found):
        tf.function(lambda x: model(x, training=False)).get_concrete_function(
            example_spec(model, input_shape)
        )
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One operation of a functional or sequential model's graph, a layer or a `keras.ops` call.

    `args` and `kwargs` are what it was called with; `inputs` are the symbolic tensors among them.
    """

    operation: keras.Operation
    args: tuple
    kwargs: dict[str, object]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A model's operations in an order in which they can run, between its ends."""

    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    nodes: tuple[Node, ...]


def is_graph(layer: keras.Operation) -> bool:
    """Returns whether all that happens in `layer` is in its graph: functional or sequential."""
    return isinstance(layer, keras.Model) and any(
        isinstance(layer, kind) and type(layer).call is kind.call
        for kind in (keras.Sequential, _functional())
    )


@functools.cache
def _functional() -> type[keras.Model]:
    """Returns the class of functional models, which has no public name."""
    return type(keras.Model(x := keras.Input((1,)), x))


def graph(model: keras.Model) -> Graph:
    """Returns the graph of a model of which `is_graph` is true.

    Keras shows a model's operations but not how they are connected, so this is the one place that
    reads the private list of nodes.
    """
    inner = model._functional if isinstance(model, keras.Sequential) else model
    by_depth = inner._nodes_by_depth
    nodes = tuple(
        Node(
            node.operation,
            node.arguments.args,
            node.arguments.kwargs,
            tuple(node.input_tensors),
            tuple(node.outputs),
        )
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if node.operation and not node.is_input
    )
    return Graph(tuple(inner.inputs), tuple(inner.outputs), nodes)
