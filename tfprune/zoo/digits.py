"""A small net for scikit-learn's 8x8 digits: trains in seconds, for examples and tests."""

import keras
from keras import layers


def digits_cnn(input_shape: tuple[int, int, int] = (8, 8, 1), classes: int = 10) -> keras.Model:
    """Returns four 3x3 conv-BN-ReLU layers, global pooling and a softmax head.

    40,090 trainable parameters for 8x8x1 and ten classes.
    """
    x = image = keras.Input(input_shape)
    for i, filters in enumerate((16, 32, 48, 48), start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{i}")(x)
        # An epoch has some forty steps: Keras's momentum of 0.99 would lag behind by epochs.
        x = layers.BatchNormalization(momentum=0.9, name=f"bn{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
        if i == 2:
            x = layers.MaxPooling2D(name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="digits_cnn")
