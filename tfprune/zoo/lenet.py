"""The two nets of the first pruning papers (LeCun et al. 1998, "Gradient-based learning")."""

import keras
from keras import layers


def lenet5(input_shape: tuple[int, int, int] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """Returns LeNet-5 in Caffe's form, which Han et al. (2015, arXiv:1506.02626) prune.

    431,080 parameters for 28x28x1 and ten classes.
    """
    image = keras.Input(input_shape)
    x = layers.Conv2D(20, 5, activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(50, 5, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(500, activation="relu", name="fc1")(x)
    x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="lenet5")


def lenet_300_100(input_shape: tuple[int, ...] = (28, 28, 1), classes: int = 10) -> keras.Model:
    """Returns the multi-layer perceptron of LeCun et al. (1998), 300 and 100 hidden units.

    266,610 parameters for 784 inputs and ten classes. Takes images and feature vectors.
    """
    image = keras.Input(input_shape)
    x = layers.Flatten(name="flatten")(image)
    x = layers.Dense(300, activation="relu", name="fc1")(x)
    x = layers.Dense(100, activation="relu", name="fc2")(x)
    x = layers.Dense(classes, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="lenet_300_100")
