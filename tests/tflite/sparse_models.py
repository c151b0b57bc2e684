"""Small models with 90 % zeros in their 1x1 kernels, most built to break one of XNNPACK's rules."""

import json
import pathlib
from typing import NamedTuple

import keras
import numpy as np

from tests import surgeons
from tfprune.graph import trace
from tfprune.measurement import devices
from tfprune.tflite import convert, flatbuffer, padding, sparse_storage
from tfprune.tflite.variants import VARIANTS

L, K = keras.layers, keras.ops


def stem(x, *, pad=1, kernel=3, strides=2, same="valid"):
    x = L.ZeroPadding2D(pad)(x) if pad else x
    return L.ReLU(6.0)(L.Conv2D(16, kernel, strides=strides, padding=same)(x))


def pointwise(x, filters=24, **options):
    return L.ReLU(6.0)(L.Conv2D(filters, 1, **options)(x))


def depthwise(kernel=3, *, pad=0, same="same", **options):
    def add(x):
        x = L.ZeroPadding2D(pad)(x) if pad else x
        return L.ReLU(6.0)(L.DepthwiseConv2D(kernel, padding=same, **options)(x))

    return add


def shortcut(layer):
    return lambda x: layer()([x, pointwise(x)])


def gate(x):
    y = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.Conv2D(8, 1, activation="relu")(y)
    return L.Multiply()([x, L.Conv2D(x.shape[-1], 1, activation="sigmoid")(y)])


def pooled(x):
    return L.Dense(6)(L.GlobalAveragePooling2D()(x))


def keeping(then):
    return lambda x: then(L.GlobalAveragePooling2D(keepdims=True)(x))


def net(middle=lambda x: x, *, first=stem, last=pooled, shape=(16, 16, 3)):
    """Returns a model: the entry, a 1x1 convolution, what is looked at, another one, the end."""
    image = keras.Input(shape)
    x = pointwise(middle(pointwise(first(image))))
    return keras.Model(image, last(x))


def unpruned(x):
    return L.Conv2D(24, 1, name="unpruned")(L.Conv2D(24, 1, name="unpruned_too")(x))


class Case(NamedTuple):
    """What must be found: `rule` is part of the one that an operator of `kind` breaks."""

    model: object
    kind: str = ""
    rule: str = ""
    engaged: bool = False
    fault: bool = False
    variant: str = "float32_sparse"
    kept: bool = True  # whether the converter's "same" is written out again


def runs(model, **options):
    return Case(model, engaged=True, **options)


def stays(model, kind, rule, **options):
    return Case(model, kind, rule, **options)


def goes_wrong(model, kind, rule, **options):
    return Case(model, kind, rule, fault=True, **options)


ONE_SIDED = ((0, 1), (0, 1))
CASES = {
    "depthwise and add": runs(lambda: net(lambda x: shortcut(L.Add)(depthwise()(x)))),
    "strides": runs(lambda: net(depthwise(5, pad=2, same="valid", strides=2))),
    "padding twice": runs(lambda: net(lambda x: L.Add()([depthwise()(x), depthwise(5)(x)]))),
    "hard swish": runs(lambda: net(L.Activation("hard_swish"))),
    "swish": runs(lambda: net(L.Activation("swish"))),
    "clamp": runs(lambda: net(L.ReLU(3.0))),
    "gate": runs(lambda: net(gate)),
    "square": runs(lambda: net(K.square)),
    "bilinear": runs(lambda: net(L.UpSampling2D(2, interpolation="bilinear"))),
    "dense layer on a map": runs(lambda: net(L.Dense(24))),
    "float16": runs(lambda: net(depthwise()), variant="float16_sparse"),
    "odd size": runs(lambda: net(depthwise(strides=2), shape=(17, 17, 3))),
    "odd size, same": stays(
        lambda: net(depthwise(strides=2), shape=(17, 17, 3)), "CONV_2D", "in numbers", kept=False
    ),
    "entry on one side": stays(
        lambda: net(first=lambda x: stem(x, pad=0, same="same")), "CONV_2D", "on one side only"
    ),
    "entry without stride": stays(
        lambda: net(first=lambda x: stem(x, strides=1)), "CONV_2D", "of stride 1"
    ),
    "entry of 5x5": stays(
        lambda: net(first=lambda x: stem(x, pad=2, kernel=5)), "CONV_2D", "a 5x5 convolution"
    ),
    "entry of one channel": stays(lambda: net(shape=(16, 16, 1)), "CONV_2D", "input channels: 1;"),
    "no entry": stays(lambda: net(first=lambda x: x), "CONV_2D", "reads an input of the model"),
    "1x1 with stride": goes_wrong(
        lambda: net(lambda x: pointwise(x, strides=2)), "CONV_2D", "has a stride"
    ),
    "1x1 in groups": goes_wrong(lambda: net(lambda x: pointwise(x, groups=4)), "CONV_2D", "groups"),
    "3x3 inside": goes_wrong(
        lambda: net(L.Conv2D(24, 3, padding="same")), "CONV_2D", "a 3x3 convolution"
    ),
    "depthwise on one side": goes_wrong(
        lambda: net(depthwise(pad=ONE_SIDED, same="valid", strides=2)),
        "DEPTHWISE_CONV_2D",
        "on one side only",
    ),
    "depthwise without padding": goes_wrong(
        lambda: net(depthwise(same="valid")), "DEPTHWISE_CONV_2D", "it pads by 0 0 0 0"
    ),
    "depthwise of 7x7": goes_wrong(lambda: net(depthwise(7)), "DEPTHWISE_CONV_2D", "kernel is 7x7"),
    "depthwise multiplied": goes_wrong(
        lambda: net(depthwise(depth_multiplier=2)), "DEPTHWISE_CONV_2D", "multiplier"
    ),
    "depthwise dilated": goes_wrong(
        lambda: net(depthwise(dilation_rate=2)), "DEPTHWISE_CONV_2D", "dilated"
    ),
    "depthwise of stride 3": goes_wrong(
        lambda: net(depthwise(pad=1, same="valid", strides=3)), "DEPTHWISE_CONV_2D", "strides"
    ),
    "pooling": goes_wrong(lambda: net(L.MaxPooling2D()), "MAX_POOL_2D", "parts of a map"),
    "concatenation": goes_wrong(
        lambda: net(lambda x: L.Concatenate()([x, x])), "CONCATENATION", "no concatenation"
    ),
    "subtraction": stays(lambda: net(shortcut(L.Subtract)), "SUB", "no sub"),
    "normalisation": goes_wrong(lambda: net(L.BatchNormalization()), "MUL", "no four axes"),
    "prelu": goes_wrong(
        lambda: net(L.PReLU(alpha_initializer="normal", shared_axes=[1, 2])), "PRELU", "no prelu"
    ),
    "transposition": goes_wrong(lambda: net(L.Permute((2, 1, 3))), "TRANSPOSE", "no transpose"),
    "an operator of TFLite's": stays(lambda: net(K.sign), "SIGN", "TFLite does"),
    "twice the same": stays(lambda: net(lambda x: L.Add()([x, x])), "ADD", "one tensor twice"),
    "flat end": stays(
        lambda: net(last=lambda x: L.Dense(6)(L.Flatten()(x))), "RESHAPE", "reshapes a map"
    ),
    "largest values": stays(
        lambda: net(last=lambda x: L.Dense(6)(L.GlobalMaxPooling2D()(x))), "REDUCE_MAX", "means"
    ),
    "pooling of the whole map": stays(
        lambda: net(last=lambda x: L.Dense(6)(L.Flatten()(L.AveragePooling2D(8)(x)))),
        "AVERAGE_POOL_2D",
        "like parts of one",
    ),
    "mean of rows": goes_wrong(
        lambda: net(last=lambda x: L.Dense(6)(L.Flatten()(K.mean(x, 1)))),
        "MEAN",
        "height and width only",
        engaged=True,
    ),
    "a map goes out": stays(
        lambda: net(last=lambda x: [pooled(x), x]), "CONV_2D", "is an output of the model"
    ),
    "a map is pooled too": stays(
        lambda: net(last=lambda x: [pooled(x), L.MaxPooling2D(4)(x)]), "MAX_POOL_2D", "parts"
    ),
    "a second end": goes_wrong(
        lambda: net(last=lambda x: [pooled(x), L.Conv2D(6, 1)(x)]),
        "CONV_2D",
        "takes them for channels last",
        engaged=True,
    ),
    "1x1 behind the pooling": goes_wrong(
        lambda: net(last=keeping(lambda x: L.Flatten()(L.Conv2D(6, 1, name="unpruned")(x)))),
        "MEAN",
        "keeps dimensions",
        engaged=True,
    ),
    "two 1x1 behind the pooling": runs(
        lambda: net(last=keeping(lambda x: L.Flatten()(L.Conv2D(6, 1)(pointwise(x)))))
    ),
    "one pixel goes out": goes_wrong(
        lambda: net(last=keeping(lambda x: x)), "MEAN", "keeps dimensions", engaged=True
    ),
    "too few zeros": stays(lambda: net(unpruned), "", "not more than 2/3"),
    "stored dense": stays(net, "", "stored without its zeros", variant="float32"),
    "dynamic int8": stays(
        lambda: net(lambda x: pointwise(x, 64)),
        "CONV_2D",
        "computes with int8",
        variant="dynamic_int8",
    ),
}


def pruned(model, zeros=0.9):
    """Returns the model with random weights, of its 1x1 kernels a share `zeros` zero."""
    surgeons.randomise(model)
    rng = np.random.default_rng(0)
    for layer in trace.layers(model):
        kernel = getattr(layer, "kernel", None)
        matrix = kernel is not None and kernel.shape[:-2] in ((1, 1), ())
        if matrix and not layer.name.startswith(("unpruned", "depthwise")):
            value = kernel.numpy()
            # Exactly so many: what decides is their share in all.
            gone = rng.permutation(value.size)[: round(zeros * value.size)]
            value.ravel()[gone] = 0
            kernel.assign(value / (1 - zeros) ** 0.5)  # else the signal fades
    return model


def file(model, x, *, variant="float32_sparse", kept=True):
    """Returns a file as it is before anybody asks whether the runtime computes it rightly."""
    wanted = VARIANTS[variant]
    dense = convert.convert(convert.trace(model, x), wanted._replace(sparse=False))
    if not wanted.sparse:
        return dense
    content = flatbuffer.read(dense)
    if kept:
        padding.explicit(content)
    sparse_storage.encode(content)
    return flatbuffer.write(content)


# The others are tried with the slow tests: each takes a third of a second to convert.
QUICK = [
    "depthwise and add",
    "strides",
    "gate",
    "float16",
    "odd size",
    "odd size, same",
    "entry on one side",
    "entry without stride",
    "entry of one channel",
    "no entry",
    "1x1 with stride",
    "3x3 inside",
    "depthwise on one side",
    "depthwise of 7x7",
    "pooling",
    "concatenation",
    "normalisation",
    "an operator of TFLite's",
    "twice the same",
    "flat end",
    "pooling of the whole map",
    "a map goes out",
    "a second end",
    "1x1 behind the pooling",
    "too few zeros",
    "stored dense",
]


def write(folder, name, model, *, variant="float32_sparse", kept=True):
    """Writes the model's file and what it must compute; returns the file's path."""
    x = np.random.default_rng(0).normal(0, 2, (1, *model.input_shape[1:])).astype("float32")
    path = folder / f"{name}.tflite"
    path.write_bytes(file(model, x, variant=variant, kept=kept))
    outputs = keras.tree.flatten(model(x, training=False))
    np.savez(path.with_suffix(".npz"), x=x, **{f"y{i}": y for i, y in enumerate(outputs)})
    return path


def profiled(device, paths, folder):
    """Returns {name: what `litert_profile` says} of files on a device."""
    worker = pathlib.Path(__file__).with_name("litert_profile.py")
    (folder / "worker.py").write_text(worker.read_text())
    (folder / "tfprune_worker.py").write_text(devices.WORKER.read_text())
    for path in paths:
        for each in (path, path.with_suffix(".npz")):
            (folder / each.name).write_bytes(each.read_bytes())
    (folder / "request.json").write_text(json.dumps([path.name for path in paths]))
    device.answer(folder, timeout=120)
    found = json.loads((folder / "result.json").read_text())
    return {pathlib.Path(name).stem: result for name, result in found.items()}
