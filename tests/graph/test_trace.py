"""What trace.py reads of Keras that Keras does not promise: if it goes, this says so."""

import keras

from tests import models
from tfprune.graph import trace

L = keras.layers


def residual():
    x = keras.Input((8, 8, 4), name="x")
    y = L.Conv2D(4, 3, padding="same", name="conv")(x)
    return keras.Model(x, keras.ops.relu(L.Add(name="add")([y, x])))


def test_private_nodes_of_functional_models():
    model = residual()
    assert isinstance(model._nodes_by_depth, dict)
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    assert len(nodes) == 4
    assert [node.operation.name for node in nodes if node.is_input] == ["x"]
    (conv,) = [node for node in nodes if node.operation.name == "conv"]
    (x,), (y,) = conv.input_tensors, conv.outputs
    assert x is model.input
    assert (conv.arguments.args, conv.arguments.kwargs) == ((x,), {})
    (add,) = [node for node in nodes if node.operation.name == "add"]
    assert [id(t) for t in add.input_tensors] == [id(y), id(x)]
    assert model._nodes_by_depth[0][0].outputs[0] is model.output  # depth 0 comes last


def test_private_functional_of_sequential_models():
    model = models.cnn()
    assert len(model._functional._nodes_by_depth) == len(model.layers) + 1


def test_private_walk_over_layers():
    model = keras.Sequential([keras.Input((4, 6))])
    model.add(L.Bidirectional(L.LSTM(2), name="both"))
    names = [type(layer).__name__ for layer in model._flatten_layers()]
    assert names[0] == "Sequential"
    assert names.count("LSTM") == names.count("LSTMCell") == 2


def test_graph():
    model = residual()
    graph = trace.graph(model)
    assert [type(node.operation).__name__ for node in graph.nodes] == ["Conv2D", "Add", "Relu"]
    assert graph.inputs == (model.input,)
    assert graph.outputs == (model.output,)
    seen = {id(model.input)}
    for node in graph.nodes:  # in an order in which they can run
        assert {id(x) for x in node.inputs} <= seen
        seen |= {id(x) for x in node.outputs}


def test_which_models_are_graphs():
    assert trace.is_graph(residual())
    assert trace.is_graph(models.cnn())
    assert not trace.is_graph(models.subclassed())
    assert not trace.is_graph(L.Dense(2))
