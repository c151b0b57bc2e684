"""Small models of every kind that tests prune."""

import keras
import numpy as np

L = keras.layers


def cnn(classes=10):
    """Convolution, batch normalisation, depthwise, dense: what most networks are made of."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            L.Conv2D(8, 3, padding="same", use_bias=False, name="conv"),
            L.BatchNormalization(name="norm"),
            L.ReLU(),
            L.DepthwiseConv2D(3, name="depthwise"),
            L.Conv2D(16, 1, name="pointwise"),
            L.BatchNormalization(),
            L.ReLU(),
            L.GlobalAveragePooling2D(),
            L.Dense(classes, activation="softmax", name="head"),
        ],
        name="cnn",
    )


def tiny():
    """A convolution and a dense layer: where what is tested is how training goes."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            L.Conv2D(8, 3, strides=2, activation="relu", name="conv"),
            L.GlobalAveragePooling2D(),
            L.Dense(10, activation="softmax", name="head"),
        ],
        name="tiny",
    )


def nested():
    """A functional model that holds a sequential one, which is used twice."""
    block = keras.Sequential(
        [keras.Input((8, 8, 4)), L.Conv2D(4, 3, padding="same", name="conv")], name="block"
    )
    x = keras.Input((8, 8, 4))
    y = L.Add()([block(x), x])
    y = L.Flatten()(block(y))
    return keras.Model(x, L.Dense(10, activation="softmax", name="head")(y))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """Layers as attributes, no graph."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = L.Conv2D(8, 3, name="conv")
        self.norm = L.BatchNormalization()
        self.pool = L.GlobalAveragePooling2D()
        self.head = L.Dense(10, activation="softmax", name="head")

    def call(self, x, training=None):
        return self.head(self.pool(keras.ops.relu(self.norm(self.conv(x), training=training))))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 4), "float32"))
    return model


def images(n=64, classes=10, shape=(8, 8, 4)):
    rng = np.random.default_rng(0)
    return rng.random((n, *shape), np.float32), rng.integers(0, classes, n)


_IMAGE, _VOLUME, _SERIES = (8, 8, 4), (6, 6, 6, 2), (12, 4)
_LAYERS = {
    "dense": ((20,), lambda: L.Dense(8)),
    "conv1d": (_SERIES, lambda: L.Conv1D(8, 3, strides=2)),
    "conv2d": (_IMAGE, lambda: L.Conv2D(8, 3, dilation_rate=2)),
    "conv2d_grouped": (_IMAGE, lambda: L.Conv2D(8, 3, groups=2)),
    "conv3d": (_VOLUME, lambda: L.Conv3D(4, 3)),
    "depthwise1d": (_SERIES, lambda: L.DepthwiseConv1D(3, depth_multiplier=2)),
    "depthwise2d": (_IMAGE, lambda: L.DepthwiseConv2D(3, strides=2, depth_multiplier=2)),
    "separable1d": (_SERIES, lambda: L.SeparableConv1D(8, 3)),
    "separable2d": (_IMAGE, lambda: L.SeparableConv2D(8, 3)),
    "conv1d_transpose": (_SERIES, lambda: L.Conv1DTranspose(6, 3, strides=2)),
    "conv2d_transpose": (_IMAGE, lambda: L.Conv2DTranspose(6, 3, strides=2)),
    "conv3d_transpose": (_VOLUME, lambda: L.Conv3DTranspose(3, 3)),
    "einsum": (_SERIES, lambda: L.EinsumDense("abc,cde->abde", (12, 2, 5), bias_axes="de")),
    "lstm": (_SERIES, lambda: L.LSTM(5)),
    "gru": (_SERIES, lambda: L.GRU(5)),
    "simple_rnn": (_SERIES, lambda: L.SimpleRNN(5)),
    "bidirectional": (_SERIES, lambda: L.Bidirectional(L.LSTM(5))),
    "time_distributed": (_SERIES, lambda: L.TimeDistributed(L.Dense(6))),
    "embedding": ((6,), lambda: L.Embedding(12, 8)),
    "attention": ((6, 8), lambda: L.MultiHeadAttention(2, 4)),
    "grouped_attention": ((6, 8), lambda: L.GroupQueryAttention(4, 4, 2)),
}
KINDS = list(_LAYERS)


def kind(name):
    """Returns a classifier whose first layer with weights is of this kind, and its input shape."""
    shape, make = _LAYERS[name]
    layer = make()
    x = keras.Input(shape, dtype="int32" if name == "embedding" else None)
    y = layer(x, x) if "attention" in name else layer(x)
    return keras.Model(x, L.Dense(10, activation="softmax", name="head")(L.Flatten()(y))), shape
