"""Residual networks for small images (He et al. 2015, arXiv:1512.03385)."""

import functools

import keras
from keras import layers


def resnet8(
    input_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    *,
    weight_decay: float = 1e-4,
) -> keras.Model:
    """Returns the image-classification net of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597).

    78,666 parameters for 32x32x3 and ten classes, convolutions with biases, 1x1 convolutions in
    the shortcuts, layer by layer as in the benchmark's trained file.

    Args:
      input_shape: height, width, channels.
      classes: number of outputs.
      weight_decay: factor of the L2 penalty on the convolutions' kernels.
    """
    conv = functools.partial(_conv, use_bias=True, weight_decay=weight_decay)
    image = keras.Input(input_shape)
    x = _relu(_bn(conv(image, 16, name="stem_conv"), "stem_bn"), "stem_relu")
    for stage, filters in enumerate((16, 32, 64), start=1):
        strides = 1 if stage == 1 else 2
        shortcut, name = x, f"stage{stage}"
        x = conv(x, filters, strides=strides, name=f"{name}_conv1")
        x = _relu(_bn(x, f"{name}_bn1"), f"{name}_relu1")
        x = _bn(conv(x, filters, name=f"{name}_conv2"), f"{name}_bn2")
        if stage > 1:
            shortcut = conv(shortcut, filters, size=1, strides=strides, name=f"{name}_shortcut")
        x = _relu(layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_relu2")
    x = layers.AveragePooling2D(min(x.shape[1:3]), name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation="softmax", kernel_initializer="he_normal", name="head")(x)
    return keras.Model(image, x, name="resnet8")


def _cifar_resnet(
    depth: int, input_shape: tuple[int, int, int], classes: int, weight_decay: float
) -> keras.Model:
    """Returns the 6n+2 layer net of section 4.2, with parameter-free shortcuts (option A)."""
    conv = functools.partial(_conv, use_bias=False, weight_decay=weight_decay)
    image = keras.Input(input_shape)
    x = _relu(_bn(conv(image, 16, name="stem_conv"), "stem_bn"), "stem_relu")
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            shortcut, name = x, f"stage{stage}_block{block}"
            x = conv(x, filters, strides=strides, name=f"{name}_conv1")
            x = _relu(_bn(x, f"{name}_bn1"), f"{name}_relu1")
            x = _bn(conv(x, filters, name=f"{name}_conv2"), f"{name}_bn2")
            if strides == 2:
                # Every second pixel, then zeros as further channels. `ops.pad` is saved as a
                # plain Keras operation, and is one PAD in a TFLite file.
                shortcut = layers.MaxPooling2D(1, strides=2, name=f"{name}_subsample")(shortcut)
                extra = filters - shortcut.shape[-1]
                shortcut = keras.ops.pad(shortcut, ((0, 0), (0, 0), (0, 0), (0, extra)))
            x = _relu(layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_relu2")
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(
        classes,
        activation="softmax",
        kernel_initializer="he_normal",
        kernel_regularizer=_l2(weight_decay),
        name="head",
    )(x)
    return keras.Model(image, x, name=f"resnet{depth}")


def resnet20(
    input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, *, weight_decay: float = 0.0
) -> keras.Model:
    """Returns ResNet-20 for CIFAR: 269,722 trainable parameters, 40,551,040 MACs."""
    return _cifar_resnet(20, input_shape, classes, weight_decay)


def resnet32(
    input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, *, weight_decay: float = 0.0
) -> keras.Model:
    """Returns ResNet-32 for CIFAR: 464,154 trainable parameters, 68,862,592 MACs."""
    return _cifar_resnet(32, input_shape, classes, weight_decay)


def resnet44(
    input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, *, weight_decay: float = 0.0
) -> keras.Model:
    """Returns ResNet-44 for CIFAR: 658,586 trainable parameters, 97,174,144 MACs."""
    return _cifar_resnet(44, input_shape, classes, weight_decay)


def resnet56(
    input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, *, weight_decay: float = 0.0
) -> keras.Model:
    """Returns ResNet-56 for CIFAR: 853,018 trainable parameters, 125,485,696 MACs."""
    return _cifar_resnet(56, input_shape, classes, weight_decay)


def resnet110(
    input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10, *, weight_decay: float = 0.0
) -> keras.Model:
    """Returns ResNet-110 for CIFAR: 1,727,962 trainable parameters, 252,887,680 MACs."""
    return _cifar_resnet(110, input_shape, classes, weight_decay)


def _conv(
    x: keras.KerasTensor,
    filters: int,
    *,
    name: str,
    use_bias: bool,
    weight_decay: float,
    size: int = 3,
    strides: int = 1,
) -> keras.KerasTensor:
    return layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer="he_normal",
        kernel_regularizer=_l2(weight_decay),
        name=name,
    )(x)


def _bn(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.BatchNormalization(name=name)(x)


def _relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return layers.ReLU(name=name)(x)


def _l2(weight_decay: float) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(weight_decay) if weight_decay else None
