"""MobileNets in the one graph form that XNNPACK runs sparse.

XNNPACK turns to its sparse kernels behind a 3x3 stride-2 convolution on three channels padded by
one on every side, for 1x1 and depthwise convolutions with symmetric padding, up to a global
average pooling. TensorFlow's "same" pads stride 2 on one side only, as keras.applications does:
therefore the explicit ZeroPadding2D. Strides of 1 pad evenly by themselves.
"""

import functools

import keras
from keras import layers

# (filters, strides) of the thirteen depthwise-separable layers: Howard et al., table 1.
_V1 = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
# (expansion, filters, repeats, strides) of the bottlenecks: Sandler et al., table 2.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v1(
    input_shape: tuple[int, int, int] = (224, 224, 3), classes: int = 10, *, width: float = 1.0
) -> keras.Model:
    """Returns MobileNetV1 (Howard et al. 2017, arXiv:1704.04861).

    4,231,976 trainable parameters at width 1 with 1000 classes. Takes any image size.

    Args:
      input_shape: height, width, channels; three channels for XNNPACK's sparse kernels.
      classes: number of outputs.
      width: multiplies every layer's channels, which are rounded to multiples of 8.
    """
    scaled = functools.partial(_scaled, width=width)
    image = keras.Input(input_shape)
    x = _stem(image, scaled(32))
    for i, (filters, strides) in enumerate(_V1, start=1):
        x = _depthwise(x, strides=strides, name=f"block{i}_depthwise")
        x = _pointwise(x, scaled(filters), name=f"block{i}_pointwise")
    return _with_head(image, x, classes, name="mobilenet_v1")


def mobilenet_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3), classes: int = 10, *, width: float = 1.0
) -> keras.Model:
    """Returns MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381).

    3,504,872 trainable parameters at width 1 with 1000 classes. Takes any image size.

    Args:
      input_shape: height, width, channels; three channels for XNNPACK's sparse kernels.
      classes: number of outputs.
      width: multiplies every layer's channels, which are rounded to multiples of 8; the last
        convolution keeps 1280 below width 1, as in the paper.
    """
    scaled = functools.partial(_scaled, width=width)
    image = keras.Input(input_shape)
    x = _stem(image, scaled(32))
    blocks = [
        (expansion, scaled(filters), strides if repeat == 0 else 1)
        for expansion, filters, repeats, strides in _V2
        for repeat in range(repeats)
    ]
    for i, (expansion, filters, strides) in enumerate(blocks, start=1):
        shortcut, channels, name = x, x.shape[-1], f"block{i}"
        if expansion > 1:
            x = _pointwise(x, channels * expansion, name=f"{name}_expand")
        x = _depthwise(x, strides=strides, name=f"{name}_depthwise")
        x = _pointwise(x, filters, name=f"{name}_project", relu=False)
        if strides == 1 and channels == filters:
            x = layers.Add(name=f"{name}_add")([shortcut, x])
    x = _pointwise(x, _scaled(1280, width=max(1.0, width)), name="last")
    return _with_head(image, x, classes, name="mobilenet_v2")


def _scaled(filters: int, width: float) -> int:
    """Returns `filters * width` as the nearest multiple of 8, no more than a tenth below it."""
    if not width > 0:
        raise ValueError(f"width must be positive, not {width}")
    rounded = max(8, int(filters * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters * width else rounded


def _bn_relu6(x: keras.KerasTensor, name: str, *, relu: bool = True) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def _stem(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = layers.Conv2D(filters, 3, strides=2, use_bias=False, name="stem_conv")(x)
    return _bn_relu6(x, "stem")


def _depthwise(x: keras.KerasTensor, *, strides: int, name: str) -> keras.KerasTensor:
    if strides == 2:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    padding = "valid" if strides == 2 else "same"
    x = layers.DepthwiseConv2D(3, strides=strides, padding=padding, use_bias=False, name=name)(x)
    return _bn_relu6(x, name)


def _pointwise(
    x: keras.KerasTensor, filters: int, *, name: str, relu: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 1, use_bias=False, name=name)(x)
    return _bn_relu6(x, name, relu=relu)


def _with_head(
    image: keras.KerasTensor, x: keras.KerasTensor, classes: int, *, name: str
) -> keras.Model:
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(image, x, name=name)
