"""Models, their files and samples for the devices to run, made once."""

import keras
import numpy as np
import pytest

from tfprune import zoo
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

L = keras.layers


def save(path, model, x, variant="float32"):
    path.write_bytes(convert.convert(convert.trace(model, x), VARIANTS[variant]))
    return path


def sparsify(layer):
    """Sets 90 % of a layer's kernel to zero."""
    kernel = layer.kernel.numpy()
    layer.kernel.assign(kernel * (abs(kernel) > np.quantile(abs(kernel), 0.9)))


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Returns a network of several kinds of layer, its file, and eight samples."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(8, 3, activation="relu"),
            L.DepthwiseConv2D(3, padding="same"),
            L.GlobalAveragePooling2D(),
            L.Dense(5, activation="softmax"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    return model, save(tmp_path_factory.mktemp("small") / "small.tflite", model, x), x


@pytest.fixture(scope="session")
def stacks(tmp_path_factory):
    """Returns the files of four dense layers and of sixteen, and samples."""
    folder = tmp_path_factory.mktemp("stacks")
    x = np.ones((2, 192), "float32")

    def stack(layers):
        dense = [L.Dense(192) for _ in range(layers)]
        return save(folder / f"{layers}.tflite", keras.Sequential([keras.Input((192,)), *dense]), x)

    return stack(4), stack(16), x


@pytest.fixture(scope="session")
def sparse_mobilenet(tmp_path_factory):
    """Returns a MobileNet with 90 % zeros in its 1x1 kernels, its two files, and samples.

    The files differ in how kernels are stored: {"float32": path, "float32_sparse": path}.
    """
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("mobilenet")
    rng = np.random.default_rng(0)
    model = zoo.build("mobilenet_v1(width=0.5)", input_shape=(32, 32, 3))
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            # As it comes from the initialisers the network forgets its input on the way.
            n = layer.gamma.shape[0]
            statistics = rng.normal(0, 0.1, n), rng.uniform(0.02, 0.1, n)
            layer.set_weights([rng.uniform(1, 3, n), rng.normal(size=n), *statistics])
        if type(layer) is L.Conv2D and layer.kernel_size == (1, 1):
            sparsify(layer)
    x = rng.normal(size=(4, 32, 32, 3)).astype("float32")
    files = {
        name: save(folder / f"{name}.tflite", model, x, name)
        for name in ("float32", "float32_sparse")
    }
    return model, files, x
