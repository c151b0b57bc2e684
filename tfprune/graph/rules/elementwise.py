"""Operations that work element by element: what meets is one."""

import functools
import math

import keras
import numpy as np

from tfprune.graph.rules import rule, several, unknown

# With these zero and zero make zero, unless a constant takes part.
_KEEP_ZERO = ("Add", "Subtract", "Maximum", "Minimum", "Average", "CustomScaleLayer")
_OTHERS = ("Power", "Where", "Greater", "GreaterEqual", "Less", "LessEqual")


@rule(*_KEEP_ZERO, *_OTHERS)
def _combine(g, v):
    if type(v.op).__name__ == "Average" and not isinstance(v.op, keras.layers.Layer):
        return unknown(g, v)  # the operation is a mean, the layer is not
    result = _meet(g, v)
    if type(v.op).__name__ == "Add":
        for shape in [*v.shapes, *map(np.shape, _constants(v))]:
            misread(g, result[-1], shape, v.op.name)
    if type(v.op).__name__ in _OTHERS or any(np.any(x) for x in _constants(v)):
        g.moves_zero(result)
    for axis, labels in enumerate(result, -len(result)):  # where one is added to all of them
        if any(len(s) < -axis or s[axis] == 1 != v.outputs[0][axis] for s in v.shapes):
            g.moves_zero([labels])
    return result


@rule("Multiply")
def _multiply(g, v):
    return _meet(g, v)


@rule("Divide", "TrueDivide")
def _divide(g, v):
    if len(v.inputs) == 1 and v.argument("x1") is v.inputs[0]:
        return _meet(g, v)
    return unknown(g, v)  # by a channel that was removed it would be 0 / 0


def misread(g, labels, shape, name):
    """Freezes channels to which (n, 1) is added: where there are n of them Keras takes it for (n,).

    Its addition in TensorFlow squeezes what could be a bias, so the number of channels matters.
    """
    if shape and shape[-1] == 1 and sum(size != 1 for size in shape) == 1:
        g.freeze([labels], f"{name!r} adds one value for each place of another axis")


def _constants(v):
    everything = keras.tree.flatten((v.args, v.kwargs))
    return [x for x in everything if x is not None and not isinstance(x, keras.KerasTensor)]


def _meet(g, v):
    """Unites the labels of all operands axis by axis; one of size 1 goes along with any number."""
    operands = list(zip(v.shapes, v.axes, strict=True))
    operands += [(np.shape(x), [None] * np.ndim(x)) for x in _constants(v)]
    size = v.outputs[0]
    result = [None] * len(size)
    for axis in range(-len(size), 0):
        single = [a[axis] for s, a in operands if len(s) >= -axis and s[axis] == 1 != size[axis]]
        g.freeze(single, f"{v.op.name!r} spreads one of them over others")
        along = [a[axis] for s, a in operands if len(s) >= -axis and s[axis] in (size[axis], None)]
        result[axis] = functools.reduce(g.unite, along) if along else None
    return result


@rule("*")
def _single(g, v):
    """Keras' own operations of one input that pass a test go element by element."""
    if len(v.axes) != 1 or len(v.outputs) != 1 or v.shapes[0] != v.outputs[0]:
        return unknown(g, v)
    if not any(labels is not None for labels in v.x):
        return v.x
    if getattr(v.op, "weights", None):
        return unknown(g, v)

    def function(x):
        def put(value):
            return x if value is v.inputs[0] else value

        return v.op.call(*map(put, v.args), **{k: put(value) for k, value in v.kwargs.items()})

    function.__name__ = type(v.op).__name__
    g.activate(v.x, function, f"in {v.op.name!r}")
    return v.x


@rule("Activation")
def _activation(g, v):
    g.activate(v.x, v.op.activation, f"in {v.op.name!r}")
    return v.x


@rule("Lambda")
def _lambda(g, v):
    return unknown(g, v)


@rule("Masking")
def _masking(g, v):
    g.freeze(v.x, f"Masking {v.op.name!r} looks at all of them")
    return v.x


@rule(
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "StochasticDepth",
    "StopGradient",
    "Cast",
)
def _same(g, v):
    del g
    return v.x


@rule("Rescaling")
def _rescaling(g, v):
    sizes = (math.prod(np.shape(x)) for x in (v.op.scale, v.op.offset))
    if max(sizes) > 1:
        g.freeze(v.x[-1:], f"Rescaling {v.op.name!r} has a constant for each")
    if np.any(v.op.offset):
        g.moves_zero(v.x)
    return v.x


@rule("PReLU")
def _prelu(g, v):
    alpha = v.op.alpha
    own = {i - 1: x for i, x in enumerate(v.x) if i and alpha.shape[i - 1] > 1}
    g.use(v.op, alpha, "through", own)
    return v.x


@rule("LayerScale")
def _layer_scale(g, v):
    g.use(v.op, v.op.gamma, "through", {-1: v.x[-1]})
    g.resize(v.op, projection_dim=v.x[-1])
    return v.x


@rule("Softmax")
def _softmax(g, v):
    g.freeze([v.x[a] for a in several(v.op.axis)], f"softmax in {v.op.name!r} mixes them")
    for mask in v.axes[1:]:
        g.freeze(mask, f"{v.op.name!r} takes them for a mask")
    g.moves_zero(v.x)
    return v.x
