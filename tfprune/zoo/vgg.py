"""VGG-16 for small images."""

import keras
from keras import layers

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16_bn(input_shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """Returns VGG-16 with batch normalization in the form that CIFAR papers prune.

    Thirteen convolutions (Simonyan & Zisserman 2014, arXiv:1409.1556, configuration D), without
    biases, and one dense head, as in Liu et al. (2017, arXiv:1708.06519). 14,724,042 trainable
    parameters and 313,201,664 MACs for 32x32x3 and ten classes.
    """
    x = image = keras.Input(input_shape)
    for stage, widths in enumerate(_STAGES, start=1):
        for i, filters in enumerate(widths, start=1):
            name = f"stage{stage}_%s{i}"
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=name % "conv",
            )(x)
            x = layers.BatchNormalization(name=name % "bn")(x)
            x = layers.ReLU(name=name % "relu")(x)
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="vgg16_bn")
