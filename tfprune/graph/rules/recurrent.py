"""Recurrent layers: a unit is a column of every gate and a row of the recurrent kernel."""

import dataclasses
import functools

import numpy as np

from tfprune.graph.rules import rule, unknown


@rule("LSTM", "GRU", "SimpleRNN")
def _recurrent(g, v):
    layer, x = v.op, v.x
    g.freeze([x[1]], f"{layer.name!r} runs along them")
    units = g.fresh(layer.units)
    gates = np.tile(units, layer.cell.kernel.shape[-1] // layer.units)
    cell = layer.cell
    g.use(cell, cell.kernel, "in", {0: x[-1]})
    g.use(cell, cell.kernel, "out", {1: gates})
    g.use(cell, cell.recurrent_kernel, "in", {0: units})
    g.use(cell, cell.recurrent_kernel, "out", {1: gates})
    g.use(cell, cell.bias, "out", {-1: gates})
    g.resize(layer, units=units)
    mask = v.argument("mask")
    for tensor, axes in zip(v.inputs[1:], v.axes[1:], strict=True):
        if tensor is mask:
            g.freeze(axes, f"{layer.name!r} takes them for a mask")
        else:  # a first state
            g.unite(units, axes[-1])
    g.activate([None, units], layer.activation, f"in {layer.name!r}")
    if gate := getattr(layer, "recurrent_activation", None):

        @functools.wraps(gate)
        def gated(x):
            return x * gate(x)

        g.activate([None, units], gated, f"in {layer.name!r}")
    return [[None] * (len(shape) - 1) + [units] for shape in v.outputs]


@rule("Bidirectional")
def _bidirectional(g, v):
    layer = v.op
    one, other = layer.forward_layer, layer.backward_layer
    known = all(type(x).__name__ in ("LSTM", "GRU", "SimpleRNN") for x in (one, other))
    states = len(v.axes) - 1 - (v.argument("mask") is not None)
    if not known or states or len(v.outputs) > (2 if layer.merge_mode is None else 1):
        return unknown(g, v)
    ahead, back = (_alone(g, v, x)[0] for x in (one, other))

    def edit(config, kept):
        g.edited_inside(one, config["layer"], kept)
        g.edited_inside(other, config["backward_layer"], kept)

    g.edit(layer, edit)
    if layer.merge_mode is None:
        return [ahead, back]
    if layer.merge_mode == "concat":
        return [*ahead[:-1], np.concatenate([ahead[-1], back[-1]])]
    return [*ahead[:-1], g.unite(ahead[-1], back[-1])]


def _alone(g, v, layer):
    """Returns the output labels of one direction."""
    return _recurrent(g, dataclasses.replace(v, op=layer, outputs=v.outputs[:1]))
