"""Every rule: a model with its channels zeroed computes what the model without them does."""

import keras
import numpy as np
import pytest

from tests import surgeons
from tfprune import surgery
from tfprune.graph.channels import Channels
from tfprune.graph.rules import channel_rule

L, ops = keras.layers, keras.ops

INPUTS = {2: (10,), 3: (8, 3), 4: (8, 8, 3), 5: (6, 6, 6, 2)}


def conv(rank, filters=8, **options):
    """The layer that makes channels of a tensor of this rank."""
    if rank == 2:
        return L.Dense(filters, **options)
    return {3: L.Conv1D, 4: L.Conv2D, 5: L.Conv3D}[rank](filters, 3, padding="same", **options)


def head(y):
    """What reads the channels of the last axis, and makes others."""
    y = conv(len(y.shape), 6, activation="relu", name="tail")(y)
    while len(y.shape) > 2:
        y = {3: L.GlobalAveragePooling1D, 4: L.GlobalAveragePooling2D}.get(
            len(y.shape), L.GlobalAveragePooling3D
        )()(y)
    return L.Dense(4, name="head")(y)


def between(rank, middle):
    """A model with `middle` between two convolutions, or dense layers at rank 2."""
    x = keras.Input(INPUTS[rank])
    return keras.Model(x, head(middle(conv(rank, name="first")(x))))


@keras.saving.register_keras_serializable("tests")
def shifted_square(x):
    """An activation of one's own that makes one of zero."""
    return (x - 1.0) * (x - 1.0)


@keras.saving.register_keras_serializable("tests")
class Scale(L.Layer):
    """A layer of one's own with a factor for each channel."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x):
        return x * self.factor


@keras.saving.register_keras_serializable("tests")
class Ruled(Scale):
    """The same, with a rule."""


@channel_rule(Ruled)
def _ruled(g, v):
    g.use(v.op, v.op.factor, "through", {-1: v.x[-1]})
    return v.x


def excite(y):
    """Squeeze and excite."""
    s = L.GlobalAveragePooling2D(keepdims=True)(y)
    s = L.Conv2D(4, 1, activation="relu", name="squeeze")(s)
    return L.Multiply()([y, L.Conv2D(8, 1, activation="sigmoid")(s)])


def shuffle(y):
    """Shuffles the channels of 2 groups."""
    y = L.Reshape((8, 8, 2, 4))(y)
    return L.Reshape((8, 8, 8))(L.Permute((1, 2, 4, 3))(y))


def shuffle_ops(y):
    y = ops.reshape(y, (-1, 8, 8, 4, 2))
    return ops.reshape(ops.transpose(y, (0, 1, 2, 4, 3)), (-1, 8, 8, 8))


def option_a(y):
    """A residual block that doubles the width with zeros instead of a kernel."""
    short = ops.pad(y[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [4, 4]])
    return L.Add()([L.Conv2D(16, 3, strides=2, padding="same", name="wide")(y), short])


def twice(layer):
    return lambda y: layer(layer(y))


def mixer(y):
    """Mixes tokens, with the channels on another axis meanwhile."""
    z = L.Dense(8, activation="relu")(L.Permute((2, 1))(y))
    return L.Add()([y, L.Permute((2, 1))(z)])


def adapted(y):
    layer = L.Normalization(name="norm")
    layer.adapt(np.random.default_rng(0).normal(1, 2, (64, *y.shape[1:])))
    return layer(y)


def both_ways(**options):
    def apply(y):
        y = L.Bidirectional(L.LSTM(5, return_sequences=True), name="one", **options)(y)
        return L.Bidirectional(L.GRU(4, return_sequences=True), name="two")(y)

    return apply


def attention(y):
    return L.MultiHeadAttention(4, 3, name="mha")(y, y)


def cross(y):
    other = L.Conv1D(5, 3, name="value")(y)
    key = L.Conv1D(7, 3, name="key")(y)
    return L.MultiHeadAttention(4, 3, value_dim=2, output_shape=6, name="mha")(y, other, key)


def sequential(y):
    return keras.Sequential([keras.Input(y.shape[1:]), L.Conv2D(5, 3), L.ReLU(), L.Conv2D(7, 3)])(y)


def functional(y, wrap=lambda y: y):
    x = keras.Input(y.shape[1:])
    z = L.Conv2D(12, 3, padding="same", name="inner")(wrap(x))
    return keras.Model(x, L.Add()([z[..., :8], z[..., 4:]]))


def called_twice(y):
    block = functional(y)
    return L.Concatenate()([block(y), block(L.Conv2D(8, 3, padding="same", name="other")(y))])


def reused(layer):
    """A layer without weights used on two tensors, which are joined."""
    return lambda y: L.Concatenate()([layer(y), layer(conv(len(y.shape), 8, name="other")(y))])


def sliced(y):
    """Halves that are read apart."""
    return L.Concatenate()([conv(4, 5)(y[..., :4]), conv(4, 5)(y[..., 4:])])


def split(y):
    a, b, c = ops.split(y, [2, 5], axis=-1)
    return ops.concatenate([conv(4, 3)(a), L.Add()([conv(4, 3)(b), c])], axis=-1)


def constant(n=8):
    return np.linspace(1, 2, n, dtype="float32")


# What can be removed: {name: (rank, what stands between two convolutions)}.
FREE = {
    "nothing": (4, lambda y: y),
    "dense": (2, L.Dense(5, activation="relu")),
    "dense_rank3": (3, L.Dense(5, activation="relu")),
    "dense_other_axis": (3, mixer),
    "conv1d": (3, L.Conv1D(5, 3, strides=2)),
    "conv2d": (4, L.Conv2D(5, 3, dilation_rate=2)),
    "conv3d": (5, L.Conv3D(5, 3)),
    "conv1d_transpose": (3, L.Conv1DTranspose(5, 3, strides=2)),
    "conv2d_transpose": (4, L.Conv2DTranspose(5, 3, strides=2)),
    "conv3d_transpose": (5, L.Conv3DTranspose(5, 3)),
    "separable1d": (3, L.SeparableConv1D(5, 3, depth_multiplier=2)),
    "separable2d": (4, L.SeparableConv2D(5, 3, depth_multiplier=2)),
    "depthwise1d": (3, L.DepthwiseConv1D(3, depth_multiplier=2)),
    "depthwise2d": (4, L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")),
    "grouped": (4, L.Conv2D(12, 3, groups=4)),
    "grouped_1d": (3, L.Conv1D(12, 3, groups=4)),
    "grouped_depthwise": (4, L.Conv2D(16, 3, groups=8)),
    "grouped_twice": (4, lambda y: L.Conv2D(12, 3, groups=4)(L.Conv2D(16, 3, groups=4)(y))),
    "grouped_unequal": (4, lambda y: L.Conv2D(12, 3, groups=2)(L.Conv2D(16, 3, groups=4)(y))),
    "einsum_last": (3, L.EinsumDense("...x,xy->...y", 5, bias_axes="y")),
    "einsum_heads": (3, L.EinsumDense("abc,cde->abde", (None, 5, 3), bias_axes="de")),
    "einsum_through": (3, L.EinsumDense("abc,bc->abc", (8, 8), bias_axes="c")),
    "einsum_front": (3, L.EinsumDense("abc,cd->abd", (8, 5), activation="sigmoid")),
    "batch_norm": (4, L.BatchNormalization()),
    "batch_norm_no_scale": (4, L.BatchNormalization(scale=False)),
    "batch_norm_no_center": (4, L.BatchNormalization(center=False)),
    "batch_norm_last": (4, L.BatchNormalization(axis=3)),
    "batch_norm_other_axis": (
        3,
        lambda y: L.Permute((2, 1))(L.BatchNormalization()(L.Permute((2, 1))(y))),
    ),
    "layer_norm_other_axis": (
        3,
        lambda y: L.Permute((2, 1))(L.LayerNormalization()(L.Permute((2, 1))(y))),
    ),
    "group_norm": (4, L.GroupNormalization(2)),
    "group_norm_plain": (4, L.GroupNormalization(4, scale=False, center=False)),
    "group_norm_twice": (4, reused(L.GroupNormalization(4, scale=False, center=False))),
    "instance_norm": (4, L.GroupNormalization(-1)),
    "unit_norm": (4, lambda y: L.UnitNormalization()(L.ReLU()(y))),
    "own_activation": (4, L.Activation(shifted_square)),
    "prelu": (4, L.PReLU()),
    "prelu_shared": (4, L.PReLU(shared_axes=[1, 2])),
    "prelu_one": (4, L.PReLU(shared_axes=[1, 2, 3])),
    "leaky_relu": (4, L.LeakyReLU()),
    "elu": (4, L.ELU()),
    "relu_threshold": (4, L.ReLU(max_value=2, threshold=0.1)),
    "max_pool1d": (3, L.MaxPooling1D()),
    "max_pool2d": (4, L.MaxPooling2D(padding="same")),
    "max_pool3d": (5, L.MaxPooling3D()),
    "average_pool1d": (3, L.AveragePooling1D(2)),
    "average_pool2d": (4, L.AveragePooling2D(2, padding="same")),
    "average_pool3d": (5, L.AveragePooling3D(2)),
    "adaptive_max1d": (3, L.AdaptiveMaxPooling1D(3)),
    "adaptive_max2d": (4, L.AdaptiveMaxPooling2D(3)),
    "adaptive_average2d": (4, L.AdaptiveAveragePooling2D(3)),
    "adaptive_average3d": (5, L.AdaptiveAveragePooling3D(2)),
    "global_max1d": (3, L.GlobalMaxPooling1D()),
    "global_max2d": (4, L.GlobalMaxPooling2D(keepdims=True)),
    "global_max3d": (5, L.GlobalMaxPooling3D()),
    "global_average1d": (3, L.GlobalAveragePooling1D(keepdims=True)),
    "global_average2d": (4, L.GlobalAveragePooling2D()),
    "global_average3d": (5, L.GlobalAveragePooling3D(keepdims=True)),
    "pad1d": (3, L.ZeroPadding1D(1)),
    "pad2d": (4, L.ZeroPadding2D(((1, 0), (2, 1)))),
    "pad3d": (5, L.ZeroPadding3D(1)),
    "crop1d": (3, L.Cropping1D(1)),
    "crop2d": (4, L.Cropping2D(1)),
    "crop3d": (5, L.Cropping3D(1)),
    "up1d": (3, L.UpSampling1D()),
    "up2d": (4, L.UpSampling2D(interpolation="bilinear")),
    "up3d": (5, L.UpSampling3D()),
    "resizing": (4, L.Resizing(5, 5)),
    "resizing_padded": (4, L.Resizing(5, 9, pad_to_aspect_ratio=True, fill_value=1.0)),
    "ops_resize": (4, lambda y: ops.image.resize(y, (5, 5))),
    "ops_pool": (4, lambda y: ops.average_pool(ops.max_pool(y, 2), 2, padding="same")),
    "residual": (4, lambda y: L.Add()([y, conv(4, 8)(L.ReLU()(conv(4, 5)(y)))])),
    "add_chain": (4, lambda y: L.Add()([y, conv(4, 8)(y), conv(4, 8)(y)])),
    "squeeze_excite": (4, excite),
    "subtract": (4, lambda y: L.Subtract()([y, conv(4, 8)(y)])),
    "average": (4, lambda y: L.Average()([y, conv(4, 8)(y)])),
    "maximum": (4, lambda y: L.Maximum()([y, conv(4, 8)(y)])),
    "minimum": (4, lambda y: L.Minimum()([y, conv(4, 8)(y)])),
    "ops_two": (
        4,
        lambda y: ops.maximum(ops.minimum(y * conv(4, 8)(y), y - conv(4, 8)(y)), y + 1.0),
    ),
    "ops_constants": (4, lambda y: 3.0 - ops.maximum(2.0 * y / 3.0 - 0.5, -0.2)),
    "ops_power": (4, lambda y: ops.power(2.0, ops.clip(y, -1, 1))),
    "ops_floor_divide": (4, lambda y: y // 0.5),
    "ops_where": (4, lambda y: ops.where(y > 0.1, conv(4, 8)(y), 0.3)),
    "ops_named": (4, lambda y: ops.relu(x=y)),
    "broadcast_space": (4, lambda y: y + L.GlobalMaxPooling2D(keepdims=True)(conv(4, 8)(y))),
    "broadcast_channel": (4, lambda y: y * conv(4, 1, name="gate")(y)),
    "concatenate": (4, lambda y: L.Concatenate()([y, conv(4, 5)(y), y])),
    "concatenate_fixed": (4, lambda y: L.Concatenate()([y, Scale()(conv(4, 5)(conv(4, 2)(y)))])),
    "concatenate_space": (4, lambda y: L.Concatenate(axis=1)([y, conv(4, 8)(y)])),
    "ops_concatenate": (4, lambda y: ops.concatenate([conv(4, 3)(y), y], axis=-1)),
    "dense_block": (
        4,
        lambda y: L.Concatenate()([y, conv(4, 4)(L.ReLU()(L.BatchNormalization()(y)))]),
    ),
    "split": (4, split),
    "split_equal": (4, lambda y: ops.subtract(*ops.split(y, 2, axis=-1))),
    "slice": (4, sliced),
    "slice_middle": (4, lambda y: y[:, 1:, ::2, 2:-1]),
    "slice_new_axis": (4, lambda y: y[:, :, 2, None, :]),
    "slice_one": (4, lambda y: y + conv(4, 5)(y)[..., :1]),
    "slice_to_nothing": (4, lambda y: L.Concatenate()([L.ReLU()(y[..., 6:]), conv(4, 3)(y)])),
    "pad_channels": (4, option_a),
    "pad_one": (4, lambda y: ops.pad(y, [[0, 0], [0, 0], [0, 0], [1, 2]], constant_values=1.0)),
    "pad_space": (4, lambda y: ops.pad(y, [[0, 0], [1, 1], [2, 0], [0, 0]], mode="reflect")),
    "flatten": (4, L.Flatten()),
    "flatten_twice": (4, reused(L.Flatten())),
    "reshape_space": (4, L.Reshape((64, 8))),
    "reshape_minus_one": (4, L.Reshape((-1, 8))),
    "reshape_twice": (4, reused(L.Reshape((64, 8)))),
    "reshape_and_back": (4, lambda y: L.Reshape((8, 8, 8))(L.Reshape((512,))(y))),
    "reshape_heads": (3, lambda y: L.Reshape((8, 8))(L.Reshape((8, 2, 4))(y))),
    "channel_shuffle": (4, shuffle),
    "channel_shuffle_ops": (4, shuffle_ops),
    "ops_reshape": (4, lambda y: ops.reshape(y, (-1, 64, 8))),
    "permute": (4, lambda y: L.Permute((3, 1, 2))(L.Permute((2, 3, 1))(y))),
    "transpose": (4, lambda y: ops.transpose(ops.transpose(y, (0, 3, 1, 2)), (0, -2, -1, 1))),
    "swapaxes": (4, lambda y: ops.swapaxes(ops.swapaxes(y, 1, -1), -1, 1)),
    "moveaxis": (4, lambda y: ops.moveaxis(ops.moveaxis(y, -1, 1), (1,), (3,))),
    "expand_squeeze": (
        3,
        lambda y: ops.squeeze(ops.expand_dims(ops.expand_dims(y, 1), -2), axis=(1, -2)),
    ),
    "squeeze_all": (3, lambda y: ops.squeeze(L.MaxPooling1D(8)(y))),
    "repeat": (4, lambda y: ops.repeat(y, 3, axis=-1)),
    "repeat_space": (4, lambda y: ops.repeat(y, 2, axis=1)),
    "tile": (4, lambda y: ops.tile(y, (1, 1, 2, 3))),
    "flip": (4, lambda y: y + ops.flip(y, axis=-1)),
    "flip_space": (4, lambda y: ops.flip(y, axis=(1, 2))),
    "ops_mean": (4, lambda y: ops.mean(y, axis=(1, 2))),
    "ops_max": (4, lambda y: ops.max(y, axis=1, keepdims=True)),
    "ops_max_initial": (4, lambda y: ops.max(y, axis=1, initial=0.4)),
    "ops_sum": (4, lambda y: ops.sum(y, axis=[2])),
    "ops_std": (4, lambda y: ops.std(y, axis=1) + ops.var(y, axis=1) + ops.prod(y, axis=1)),
    "repeat_vector": (2, L.RepeatVector(3)),
    "dropout": (4, lambda y: L.GaussianNoise(0.1)(L.SpatialDropout2D(0.5)(L.Dropout(0.5)(y)))),
    "dropouts": (4, lambda y: L.Identity()(L.AlphaDropout(0.5)(L.GaussianDropout(0.5)(y)))),
    "activity": (4, L.ActivityRegularization(0.1)),
    "rescaling": (4, L.Rescaling(2.0, offset=0.1)),
    "normalization": (4, adapted),
    "attention": (3, attention),
    "attention_no_bias": (3, lambda y: L.MultiHeadAttention(4, 3, use_bias=False)(y, y)),
    "attention_cross": (3, cross),
    "attention_residual": (3, lambda y: L.Add()([y, attention(y)])),
    "grouped_query": (3, lambda y: L.GroupQueryAttention(3, 8, 4, name="gqa")(y, y)),
    "grouped_query_no_bias": (3, lambda y: L.GroupQueryAttention(3, 8, 4, use_bias=False)(y, y)),
    "lstm": (3, L.LSTM(6)),
    "lstm_relu": (3, L.LSTM(6, activation="relu")),
    "lstm_sigmoid": (3, L.LSTM(6, activation="sigmoid", use_bias=False)),
    "gru": (3, L.GRU(6)),
    "gru_sigmoid": (3, L.GRU(6, activation="sigmoid", use_bias=False)),
    "gru_reset_before": (3, L.GRU(6, reset_after=False)),
    "simple_rnn": (3, L.SimpleRNN(6)),
    "simple_rnn_sigmoid": (3, L.SimpleRNN(6, activation="sigmoid")),
    "lstm_stacked": (3, lambda y: L.LSTM(6)(L.LSTM(5, return_sequences=True)(y))),
    "gru_stacked": (3, lambda y: L.GRU(6)(L.GRU(5, return_sequences=True, go_backwards=True)(y))),
    "rnn_residual": (3, lambda y: y + L.SimpleRNN(8, return_sequences=True)(y)),
    "lstm_states": (3, lambda y: L.Concatenate()(L.LSTM(6, return_state=True)(y))),
    "gru_initial": (3, lambda y: L.GRU(8)(y, initial_state=L.GlobalMaxPooling1D()(y))),
    "bidirectional": (3, both_ways()),
    "bidirectional_sum": (3, both_ways(merge_mode="sum")),
    "bidirectional_mul": (3, both_ways(merge_mode="mul")),
    "bidirectional_pair": (
        3,
        lambda y: L.Concatenate()(L.Bidirectional(L.LSTM(5), merge_mode=None)(y)),
    ),
    "time_dense": (3, L.TimeDistributed(L.Dense(5, activation="relu"))),
    "time_conv": (5, L.TimeDistributed(L.Conv2D(5, 3))),
    "time_flatten": (5, L.TimeDistributed(L.Flatten())),
    "shared_conv": (4, twice(L.Conv2D(8, 3, padding="same"))),
    "shared_norm": (4, reused(L.BatchNormalization())),
    "shared_relu": (4, reused(L.ReLU())),
    "nested_sequential": (4, sequential),
    "nested_functional": (4, lambda y: functional(y)(y)),
    "nested_twice": (4, called_twice),
    "nested_deep": (4, lambda y: functional(y, functional(y))(y)),
    "functional_in_sequential": (4, lambda y: keras.Sequential([functional(y)])(y)),
    "own_layer": (4, lambda y: Ruled(name="own")(L.ReLU()(y))),
}

# What is frozen: {name: (rank, what stands between two convolutions, whose channels, the reason)}.
FROZEN = {
    "einsum_other_axis": (
        3,
        L.EinsumDense("abc,bd->adc", (6, 8), bias_axes="d"),
        "first",
        "adds one value for each place of another axis",
    ),
    "einsum_through_shifted": (
        3,
        L.EinsumDense("abc,bc->abc", (8, 8), bias_axes="b"),
        "first",
        "adds one value for each place of another axis",
    ),
    "grouped_fixed": (
        4,
        lambda y: L.Conv2D(8, 3, groups=4, name="grouped")(Scale()(y)),
        "grouped",
        "the groups of 'grouped' read channels that are fixed",
    ),
    "layer_norm": (4, L.LayerNormalization(name="norm"), "first", "'norm' normalises by statis"),
    "rms_norm": (4, L.RMSNormalization(name="norm"), "first", "'norm' normalises by statistics"),
    "ops_layer_norm": (
        4,
        lambda y: ops.layer_normalization(y, np.ones(8, "float32"), np.ones(8, "float32")),
        "first",
        "",
    ),
    "group_norm_one": (4, L.GroupNormalization(1, name="norm"), "first", "'norm' normalises by"),
    "unit_norm_sigmoid": (
        4,
        lambda y: L.UnitNormalization()(ops.sigmoid(y)),
        "first",
        "summed over where a removed channel would not be zero",
    ),
    "softmax": (4, L.Softmax(name="soft"), "first", "softmax in 'soft' mixes them"),
    "softmax_op": (4, ops.softmax, "first", "softmax in"),
    "glu": (4, ops.glu, "first", "Glu"),
    "masking": (3, L.Masking(name="masking"), "first", "'masking'"),
    "slice_steps": (4, lambda y: y[:, :, :, ::2], "first", "takes some of them by steps"),
    "index": (4, lambda y: y[..., 3], "first", "takes one of them"),
    "pad_reflect": (
        4,
        lambda y: ops.pad(y, [[0, 0], [0, 0], [0, 0], [1, 2]], mode="reflect"),
        "first",
        "pads along them",
    ),
    "mean_channels": (
        4,
        lambda y: ops.mean(y, axis=-1, keepdims=True),
        "first",
        "reduces over them",
    ),
    "sum_all": (4, lambda y: y * ops.sum(y, axis=(1, 2, 3), keepdims=True), "first", "reduces"),
    "ops_average": (4, lambda y: ops.average(y, axis=1), "first", "Average"),
    "pool_channels": (
        4,
        lambda y: L.Permute((2, 3, 1))(L.MaxPooling2D()(L.Permute((3, 1, 2))(y))),
        "first",
        "works along their axis",
    ),
    "roll": (4, lambda y: ops.roll(y, 1, axis=-1), "first", "Roll"),
    "cumsum": (4, lambda y: ops.cumsum(y, axis=-1), "first", "Cumsum"),
    "divide_two": (4, lambda y: y / (conv(4, 8)(y) + 9.0), "first", "no channel rule for"),
    "constants": (4, lambda y: y * constant(), "first", "they meet channels that are fixed"),
    "constant_where": (4, lambda y: ops.where(y > constant(), y, 0.0), "first", "that are fixed"),
    "rescaling_each": (4, L.Rescaling(constant(), name="scale"), "first", "has a constant"),
    "normalization_constant": (
        4,
        L.Normalization(mean=constant(), variance=constant(), name="norm"),
        "first",
        "'norm' has constants",
    ),
    "lambda": (4, L.Lambda(shifted_square, name="double"), "first", "Lambda 'double'"),
    "custom": (4, Scale(name="own"), "first", "no channel rule for Scale 'own'"),
    "attention_tokens": (
        3,
        lambda y: attention(L.Permute((2, 1))(y)),
        "first",
        "'mha' attends along them",
    ),
    "attention_scores": (
        3,
        lambda y: L.MultiHeadAttention(4, 3, name="mha")(y, y, return_attention_scores=True)[0],
        "first",
        "'mha'",
    ),
    "dot_attention": (3, lambda y: L.Attention(name="dot")([y, y]), "first", "Attention 'dot'"),
    "recurrent_time": (
        3,
        lambda y: L.LSTM(5, name="rnn")(L.Permute((2, 1))(y)),
        "first",
        "'rnn' runs along them",
    ),
    "recurrent_softmax": (
        3,
        L.LSTM(6, recurrent_activation="softmax", name="rnn"),
        "lstm_cell",
        "softmax in 'rnn' mixes them",
    ),
    "recurrent_cell": (3, L.RNN(L.LSTMCell(5), name="rnn"), "first", "no channel rule for RNN"),
    "bidirectional_cell": (
        3,
        L.Bidirectional(L.RNN(L.LSTMCell(5)), name="ways"),
        "first",
        "Bidirectional",
    ),
    "time_model": (
        5,
        lambda y: L.TimeDistributed(sequential_like(y), name="time")(y),
        "first",
        "TimeDistributed",
    ),
    "constant_other_axis": (
        4,
        lambda y: y + constant().reshape(8, 1),
        "first",
        "adds one value for each place of another axis",
    ),
    "shared_with_fixed": (
        4,
        lambda y: L.Concatenate()(list(map(L.Conv2D(5, 3), (y, Scale()(y))))),
        "first",
        "no channel rule",
    ),
}


def sequential_like(y):
    return keras.Sequential([keras.Input(y.shape[2:]), L.Conv2D(5, 3)])


# Where something between has to stay although the first channels can go.
STUCK = {"dense_other_axis", "einsum_heads", "broadcast_channel", "concatenate_fixed", "slice_one"}


def saved(model, folder):
    """The model from its file, read by Keras alone."""
    model.save(folder / "small.keras")
    return keras.saving.load_model(folder / "small.keras", safe_mode=False)


@pytest.mark.parametrize("name", FREE)
def test_removed(name, tmp_path):
    rank, middle = FREE[name]
    model = between(rank, middle)
    channels, groups, small = surgeons.shrinks(model)
    assert not groups["first"].frozen
    assert small.get_layer("first").kernel.shape[-1] < 8
    stuck = {g.name for g in channels.groups() if g.frozen} - {"head"}
    assert bool(stuck) == (name in STUCK), stuck
    x = surgeons.inputs(small)
    assert surgeons.error(small(x), saved(small, tmp_path)(x)) <= 1e-6


# What can go for either reason alone can go for both, which is tried above.
EITHER = (surgeons.READ, surgeons.MADE)


@pytest.mark.parametrize("name", FROZEN)
def test_frozen(name):
    rank, middle, layer, reason = FROZEN[name]
    model = between(rank, middle)
    _, groups, _ = surgeons.shrinks(model, draws=EITHER)
    assert groups[layer].frozen
    assert reason in groups[layer].frozen
    assert not groups["tail"].frozen


# Each of Keras' own: what it is as an argument, as a layer and as an operation.
ACTIVATIONS = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softplus",
    "softsign",
    "sparse_sigmoid",
    "squareplus",
    "tanh",
    "tanh_shrink",
]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    def middle(y):
        y = L.Activation(name)(L.Conv2D(5, 3, activation=name, name="argument")(y))
        y = L.Conv2D(6, 3, name="operation")(y)
        return getattr(ops, name)(y) if hasattr(ops, name) else y

    channels, groups, _ = surgeons.shrinks(between(4, middle), draws=EITHER)
    assert [g.frozen for g in groups.values()] == ["", "", "", "", "they are the model's output"]
    at_zero = float(getattr(keras.activations, name)(ops.zeros((1, 1)))[0, 0])
    for layer in ("argument", "operation"):
        if layer == "argument" or hasattr(ops, name):
            assert channels.moved[groups[layer].labels].all() == bool(at_zero)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sparsemax"])
@pytest.mark.parametrize("way", ["argument", "layer", "operation"])
def test_activations_that_mix(name, way):
    def middle(y):
        if way == "argument":
            return L.Conv2D(5, 3, activation=name, name="mixed")(y)
        y = L.Conv2D(5, 3, name="mixed")(y)
        return L.Activation(name)(y) if way == "layer" else getattr(ops, name)(y)

    _, groups, _ = surgeons.shrinks(between(4, middle), draws=EITHER)
    assert groups["mixed"].frozen.endswith("mixes them")
    assert not groups["first"].frozen


def residual():
    """Two blocks: the stem's 8 channels run through, each block has 5 of its own."""
    x = keras.Input((8, 8, 3))
    y = conv(4, 8, name="stem")(x)
    for i in "ab":
        z = L.ReLU()(L.BatchNormalization()(conv(4, 5, name=f"{i}1", use_bias=False)(y)))
        y = L.ReLU()(L.Add()([y, conv(4, 8, name=f"{i}2")(z)]))
    return keras.Model(x, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(y)))


def dense_block():
    """Every layer reads what all before it made."""
    x = keras.Input((8, 8, 3))
    y = conv(4, 8, name="stem")(x)
    for i in "abc":
        y = L.Concatenate()([y, conv(4, 4, name=i)(L.ReLU()(L.BatchNormalization()(y)))])
    return keras.Model(x, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(y)))


def squeeze_excite():
    x = keras.Input((8, 8, 3))
    y = excite(conv(4, 8, name="stem")(x))
    return keras.Model(x, L.Dense(4, name="head")(L.GlobalAveragePooling2D()(y)))


def flattened():
    x = keras.Input((8, 8, 3))
    return keras.Model(x, L.Dense(4, name="head")(L.Flatten()(conv(4, 8, name="stem")(x))))


def several_ends():
    """Two inputs, a dictionary of outputs, one of which is read inside as well."""
    image, row = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="row")
    y = L.GlobalAveragePooling2D()(conv(4, 8, name="stem")(image))
    z = L.Dense(6, name="row_first")(row)
    shown = L.Dense(3, name="shown")(y)
    both = L.Concatenate()([y, z, shown])
    outputs = {"shown": shown, "head": L.Dense(4, name="head")(both)}
    return keras.Model({"image": image, "row": row}, outputs)


def text():
    x = keras.Input((7,), dtype="int32")
    y = L.Embedding(9, 8, mask_zero=True, name="words")(x)
    y = L.Bidirectional(L.LSTM(5))(y)
    return keras.Model(x, L.Dense(4, name="head")(y))


def masked_text():
    x = keras.Input((7,), dtype="int32")
    y = L.LSTM(6)(L.Embedding(9, 8, mask_zero=True, name="words")(x))
    return keras.Model(x, L.Dense(4, name="head")(y))


def stacked():
    """A sequential model with a functional and a sequential one inside."""
    x = keras.Input((8, 8, 6))
    block = keras.Model(x, L.Add()([x[..., :3], conv(4, 3, name="inner")(x)]), name="block")
    tail = keras.Sequential([keras.Input((8, 8, 3)), conv(4, 7, name="deep"), L.ReLU()])
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Normalization(),
            conv(4, 6, name="stem"),
            block,
            tail,
            L.Flatten(),
            L.Dense(4, name="head"),
        ]
    )


FIXED = "they are the model's output"

# By hand: the groups as (the layer that makes them first, channels, why they are frozen).
BY_HAND = {
    residual: [("stem", 8, ""), ("a1", 5, ""), ("b1", 5, ""), ("head", 4, FIXED)],
    dense_block: [
        ("stem", 8, ""),
        ("a", 4, ""),
        ("b", 4, ""),
        ("c", 4, ""),
        ("head", 4, FIXED),
    ],
    squeeze_excite: [("stem", 8, ""), ("squeeze", 4, ""), ("head", 4, FIXED)],
    flattened: [("stem", 8, ""), ("head", 4, FIXED)],
    several_ends: [
        ("stem", 8, ""),
        ("row_first", 6, ""),
        ("shown", 3, FIXED),
        ("head", 4, FIXED),
    ],
    masked_text: [("words", 8, ""), ("lstm_cell", 6, ""), ("head", 4, FIXED)],
    text: [("words", 8, ""), ("lstm_cell", 5, ""), ("lstm_cell", 5, ""), ("head", 4, FIXED)],
    # Of the stem three are added to what the inner layer makes, three it only reads.
    stacked: [
        ("stem", 3, ""),
        ("stem", 3, ""),
        ("deep", 7, ""),
        ("head", 4, FIXED),
    ],
}


@pytest.mark.parametrize("build", BY_HAND)
def test_by_hand(build, tmp_path):
    keras.backend.clear_session()
    model = build()
    channels, _, small = surgeons.shrinks(model)
    found = [(g.name, len(g), g.frozen) for g in channels.groups()]
    assert sorted(found) == sorted(BY_HAND[build])
    x = surgeons.inputs(small)
    assert surgeons.error(small(x), saved(small, tmp_path)(x)) <= 1e-6


def test_states_that_stay():
    x = keras.Input(batch_shape=(2, 8, 3))
    y = L.LSTM(6, stateful=True)(conv(3, 8, name="first")(x))
    channels, _, _ = surgeons.shrinks(keras.Model(x, head(y)), draws=[surgeons.READ])
    assert [g.frozen for g in channels.groups()] == ["", "", "", FIXED]


def test_of_a_group_taken_apart_each_part_stays():
    channels = Channels(between(4, sliced))
    assert [len(g) for g in channels.groups()][:2] == [4, 4]


def test_the_members_of_a_residual_block():
    stem = Channels(residual()).groups()[0]
    assert [layer.name for layer in stem.layers] == ["stem", "a2", "b2"]
    assert [m.slices.layer.name for m in stem.members if m.slices.role == "in"] == [
        "a1",
        "b1",
        "head",
    ]


def test_a_shared_layer_that_reads_fixed_channels_freezes_the_others():
    x, fixed = keras.Input((8, 8, 3)), keras.Input((8, 8, 8))
    shared = conv(4, 5, name="shared")
    y = L.Concatenate()([shared(fixed), shared(conv(4, 8, name="first")(x))])
    _, groups, _ = surgeons.shrinks(keras.Model([x, fixed], head(y)))
    assert groups["first"].frozen == "'shared' is shared with fixed channels"


@pytest.mark.parametrize("build", [residual, dense_block, squeeze_excite, flattened, text])
def test_what_is_done_wrong_is_noticed(build):
    """The control: other channels removed than zeroed, or one more."""
    model = build()
    surgeons.randomise(model)
    channels = Channels(model)
    x = surgeons.inputs(model)
    group = next(g for g in channels.groups() if len(g) > 4)
    gone = np.zeros((3, len(channels.labels)), bool)
    for marked, chosen in zip(gone, ([0, 1], [0, 2], [0, 1, 2]), strict=True):
        marked[group.labels[chosen]] = True
    gone = gone[:, channels.roots]
    surgeons.mask(channels, gone[0])
    masked = model(x, training=False)
    right, other, more = (
        surgeons.error(masked, surgery.remove(model, channels, each)(x, training=False))
        for each in gone
    )
    assert right <= 1e-5
    assert min(other, more) >= 1e-3


@pytest.mark.parametrize("roles", [surgeons.READ, surgeons.MADE])
def test_what_may_not_go_by_one_side_alone_is_noticed(roles, monkeypatch):
    """The control of `moves_zero` and `counts`: without them the comparison fails."""

    def middle(y):
        return L.UnitNormalization()(L.ReLU()(y)) if roles == surgeons.READ else ops.sigmoid(y)

    monkeypatch.setattr(surgeons, "allowed", lambda channels, gone, roles: gone)
    with pytest.raises(AssertionError, match="in draw"):
        surgeons.shrinks(between(4, middle), draws=[roles])
