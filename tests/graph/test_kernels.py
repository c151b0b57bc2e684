import keras
import numpy as np
import pytest

from tests import models
from tfprune.graph import kernels as k
from tfprune.graph import trace


@pytest.mark.parametrize("kind", models.KINDS)
def test_every_kernel_is_found_and_its_view_is_reversible(kind):
    model, _ = models.kind(kind)
    kernels, skipped = k.find(model)
    assert skipped == []
    matrices = [w for w in model.weights if w.name in _KERNELS]
    assert [kernel.variable.path for kernel in kernels] == [w.path for w in matrices]
    for kernel in kernels:
        array = kernel.variable.numpy()
        np.testing.assert_array_equal(kernel.restore(kernel.canonical(array)), array)


_KERNELS = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")


@pytest.mark.parametrize(
    "kind",
    [
        "dense",
        "conv2d",
        "conv2d_grouped",
        "depthwise2d",
        "conv2d_transpose",
        "einsum",
        "separable1d",
        "time_distributed",
        "embedding",
    ],
)
def test_one_canonical_column_makes_one_output(kind):
    """Zeroing column j of the canonical view zeroes output j alone, whatever the layer."""
    model, shape = models.kind(kind)
    layer, kernel = model.layers[1], k.find(model)[0][-2]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 12, (1, *shape)) if kind == "embedding" else rng.random((1, *shape))
    array = kernel.canonical(kernel.variable.numpy())
    array[..., 1] = 0
    before = layer(x).numpy().reshape(-1, kernel.shape[-1])
    kernel.variable.assign(kernel.restore(array))
    after = layer(x).numpy().reshape(-1, kernel.shape[-1])
    assert np.all(after[:, 1] == 0)
    assert np.any(before[:, 1] != 0)
    others = np.arange(kernel.shape[-1]) != 1
    np.testing.assert_allclose(after[:, others], before[:, others], rtol=1e-6)


def test_equal_paths_get_names_of_their_own():
    x = keras.Input((4,))
    layers = [[keras.Input((4,)), keras.layers.Dense(4, name="d")] for _ in range(2)]
    first, second = (keras.Sequential(each, name="part") for each in layers)
    outer = keras.Sequential([first], name="outer")  # hides that the two have one name
    model = keras.Model(x, second(outer(x)))
    assert [kernel.name for kernel in k.find(model)[0]] == ["part/d/kernel", "part/d/kernel#2"]


def test_a_layer_without_a_rule_is_listed_with_the_reason():
    class Custom(keras.layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 3), name="w")

        def call(self, x):
            return x @ self.w

    model = keras.Sequential(
        [keras.Input((4,)), Custom(name="mine"), keras.layers.Dense(2)], name="net"
    )
    kernels, skipped = k.find(model)
    assert len(kernels) == 1
    assert [(s.name, s.reason) for s in skipped] == [
        ("net/mine/w", "no pruning rule for a Custom layer")
    ]


def test_an_unbuilt_model_is_an_error():
    with pytest.raises(ValueError, match="call it once on data"):
        k.find(keras.Sequential([keras.layers.Dense(2)]))


def test_patterns_protect_layers_by_name_path_and_glob():
    kernels, _ = k.find(models.cnn())
    assert k.protected(kernels, ["head"]) == [False, False, False, True]
    assert k.protected(kernels, ["*wise"]) == [False, True, True, False]
    assert k.protected(kernels, "cnn/conv/kernel") == [True, False, False, False]
    with pytest.raises(ValueError, match="Did you mean head"):
        k.protected(kernels, ["heat"])


def test_parameters_are_what_trains_and_stay_so_when_frozen():
    model = models.cnn()
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert k.parameters(model) == trainable
    model.trainable = False
    assert k.parameters(model) == trainable


def test_the_private_walk_of_keras_still_enters_every_layer():
    """If a new Keras renames it, this says so first."""
    assert hasattr(keras.layers.Layer, "_flatten_layers")
    model, _ = models.kind("bidirectional")
    found = [type(layer).__name__ for layer in trace.layers(model)]
    assert found.count("LSTMCell") == 2
