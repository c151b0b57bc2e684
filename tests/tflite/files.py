"""Small models with zeros, and what LiteRT returns for their files."""

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

L = keras.layers
RNG = np.random.default_rng(0)


def sparse(layers, keep=0.2, block=1):
    """Returns a model of which a share `keep` of the weights, in blocks of inputs, is not zero."""
    model = keras.Sequential(layers)
    for v in model.weights:
        size = np.prod(v.shape[:-1]) or 1
        values = RNG.normal(size=v.shape) / np.sqrt(size)
        if len(v.shape) > 1:
            fits = v.shape[-2] % block == 0
            shape = (*v.shape[:-2], v.shape[-2] // (block if fits else 1), v.shape[-1])
            values *= np.repeat(RNG.random(shape) < keep, block if fits else 1, -2)
        v.assign(values)
    return model


def cnn():
    """Returns a model with every kind of kernel that can be stored sparse."""
    return sparse(
        [
            keras.Input((10, 10, 3)),
            L.Conv2D(32, 3, activation="relu"),
            L.DepthwiseConv2D(3),
            L.Conv2D(64, 1),
            L.Conv2DTranspose(16, 3, strides=2),
            L.Conv2D(272, 1),
            L.GlobalAveragePooling2D(),
            L.Dense(40, activation="softmax"),
        ]
    )


def samples(model, count=20):
    return RNG.normal(size=(count, *model.input_shape[1:])).astype("float32")


def content(model, x, name, **changes):
    """Returns the file of a variant."""
    variant = VARIANTS[name]._replace(**changes)
    return convert.convert(convert.trace(model, x), variant, [x] if variant.calibrated else None)


def outputs(file, x):
    """Returns what LiteRT, in this process, returns for each sample of a file without int io."""
    interpreter = Interpreter(model_content=file)
    interpreter.allocate_tensors()
    found = []
    for row in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(found)
