"""Keyword spotting on microcontrollers."""

import keras
from keras import layers


def ds_cnn(
    input_shape: tuple[int, int, int] = (49, 10, 1),
    classes: int = 10,
    *,
    weight_decay: float = 1e-4,
) -> keras.Model:
    """Returns the DS-CNN of MLPerf Tiny (Banbury et al. 2021, arXiv:2106.07597).

    The small depthwise-separable net of Zhang et al. (2017, arXiv:1711.07128): 24,908 parameters
    for 49 frames of 10 MFCC features and the benchmark's twelve classes.

    Args:
      input_shape: frames, features, 1.
      classes: number of outputs.
      weight_decay: factor of the L2 penalty on the convolutions' kernels.
    """
    l2 = keras.regularizers.L2(weight_decay) if weight_decay else None

    def bn_relu(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    image = keras.Input(input_shape)
    x = layers.Conv2D(
        64, (10, 4), strides=2, padding="same", kernel_regularizer=l2, name="stem_conv"
    )(image)
    x = bn_relu(x, "stem")
    x = layers.Dropout(0.2, name="stem_dropout")(x)
    for block in range(1, 5):
        name = f"block{block}"
        x = layers.DepthwiseConv2D(
            3, padding="same", depthwise_regularizer=l2, name=f"{name}_depthwise"
        )(x)
        x = bn_relu(x, f"{name}_depthwise")
        x = layers.Conv2D(64, 1, kernel_regularizer=l2, name=f"{name}_pointwise")(x)
        x = bn_relu(x, f"{name}_pointwise")
    x = layers.Dropout(0.4, name="dropout")(x)
    x = layers.AveragePooling2D(x.shape[1:3], name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="ds_cnn")
