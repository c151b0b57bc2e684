"""Layers with kernels: they read the channels of their input and make new ones."""

import string

import numpy as np

from tfprune.graph.rules import rule, unknown
from tfprune.graph.rules.elementwise import misread


@rule("Dense", "Conv1D", "Conv2D", "Conv3D")
def _conv(g, v):
    layer, x = v.op, v.x[-1]
    g.only(v, -1, *range(len(v.x) - len(layer.kernel.shape) + 1))
    out = g.fresh(layer.kernel.shape[-1])
    groups = getattr(layer, "groups", 1)
    if groups == 1:
        g.use(layer, layer.kernel, "in", {-2: x})
        g.use(layer, layer.kernel, "out", {-1: out})
        g.resize(layer, **{"units" if len(layer.kernel.shape) == 2 else "filters": out})
    else:
        _whole_groups(g, layer, x, out, groups)
    if layer.bias is not None:
        g.moves_zero(v.x[:-1])
    others = v.x[:-1] if len(layer.kernel.shape) == 2 else None
    return _biased(g, v, "out", out, others)


def _biased(g, v, role, out, others=None):
    """Returns the output's labels after bias and activation: `out` last, of the other axes none."""
    g.use(v.op, v.op.bias, role, {-1: out})
    return _activated(g, v, [*(others or [None] * (len(v.x) - 1)), out])


def _activated(g, v, axes):
    g.activate(axes, v.op.activation, f"in {v.op.name!r}")
    return axes


def _whole_groups(g, layer, x, out, groups):
    """A group of channels goes as a whole, what it reads and what it makes."""
    rows = out.reshape(groups, -1)
    g.labels.unite(rows, rows[:, :1])
    if x is None:
        g.freeze([out], f"the groups of {layer.name!r} read channels that are fixed")
    else:
        g.labels.unite(x.reshape(groups, -1), rows[:, :1])
    g.use(layer, layer.kernel, "through", {-1: out})

    def edit(config, kept):
        config |= {"filters": kept(out), "groups": groups * kept(out) // len(out)}

    g.edit(layer, edit)


@rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(g, v):
    layer = v.op
    g.only(v, -1)
    out = g.fresh(layer.kernel.shape[-2])
    g.use(layer, layer.kernel, "in", {-1: v.x[-1]})
    g.use(layer, layer.kernel, "out", {-2: out})
    g.resize(layer, filters=out)
    return _biased(g, v, "out", out)


@rule("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(g, v):
    layer, x = v.op, v.x[-1]
    g.only(v, -1)
    g.use(layer, layer.kernel, "through", {-2: x})
    if x is None:  # its outputs can't go one by one: they are a multiple of the inputs
        return v.x
    return _biased(g, v, "through", np.repeat(x, layer.depth_multiplier))


@rule("SeparableConv1D", "SeparableConv2D")
def _separable(g, v):
    layer, x = v.op, v.x[-1]
    g.only(v, -1)
    out = g.fresh(layer.pointwise_kernel.shape[-1])
    wide = x if x is None else np.repeat(x, layer.depth_multiplier)
    g.use(layer, layer.depthwise_kernel, "through", {-2: x})
    g.use(layer, layer.pointwise_kernel, "in", {-2: wide})
    g.use(layer, layer.pointwise_kernel, "out", {-1: out})
    g.resize(layer, filters=out)
    return _biased(g, v, "out", out)


@rule("Embedding")
def _embedding(g, v):
    out = g.fresh(v.op.embeddings.shape[-1])
    g.moves_zero(v.x)
    g.use(v.op, v.op.embeddings, "out", {-1: out})
    g.resize(v.op, output_dim=out)
    return [*v.x, out]


@rule("EinsumDense")
def _einsum(g, v):
    layer = v.op
    operands, _, result = layer.equation.replace(" ", "").partition("->")
    inputs, letters = operands.split(",")
    if inputs.endswith("...") or len(set(inputs)) < len(inputs.replace("...", ".")):
        return unknown(g, v)
    spare = [c for c in string.ascii_letters if c not in layer.equation]
    rest = "".join(spare[: len(v.x) - len(inputs.replace("...", ""))])
    inputs, result = inputs.replace("...", rest), result.replace("...", rest)
    along = dict(zip(inputs, v.x, strict=True))
    made = {}
    for axis, letter in enumerate(letters):
        if letter in inputs:
            role = "through" if letter in result else "in"
            g.use(layer, layer.kernel, role, {axis: along[letter]})
        else:
            made[letter] = g.fresh(layer.kernel.shape[axis])
            g.use(layer, layer.kernel, "out", {axis: made[letter]})
    g.freeze(
        [along[c] for c in inputs if c not in letters and c not in result],
        f"EinsumDense {layer.name!r} sums over them",
    )
    along |= made
    axes = [along[letter] for letter in result]
    if layer.bias is not None:
        g.moves_zero([along[c] for c in result if c not in layer.bias_axes])
        misread(g, axes[-1], layer.bias.shape, layer.name)
    for letter in layer.bias_axes or "":
        axis = result.index(letter) - len(result)
        g.use(layer, layer.bias, "out" if letter in made else "through", {axis: along[letter]})

    def edit(config, kept):
        shape = config["output_shape"]
        shape = [shape] if isinstance(shape, int) else list(shape)
        for place in range(-len(shape), 0):
            if shape[place] is not None and axes[place] is not None:
                shape[place] = kept(axes[place])
        config["output_shape"] = tuple(shape)

    g.edit(layer, edit)
    return _activated(g, v, axes)
