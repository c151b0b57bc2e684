"""Normalisation: a scale and a shift for each channel, and statistics that may run over them."""

from tfprune.graph.rules import rule, several


@rule("BatchNormalization")
def _batch(g, v):
    layer, x = v.op, v.x[v.op.axis]
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        g.use(layer, getattr(layer, name, None), "through", {-1: x})
    # A channel of zeros has a gamma of zero, where there is one for each channel.
    g.moves_zero([a for a in v.x if a is not x or not layer.scale])
    return v.x


@rule("LayerNormalization", "RMSNormalization", "LayerNorm", "RMSNorm")
def _layer(g, v):
    over = [v.x[a] for a in several(v.op.axis)]
    g.freeze(over, f"{v.op.name!r} normalises by statistics over all of them")
    g.moves_zero(v.x)
    return v.x


@rule("GroupNormalization")
def _group(g, v):
    layer, x = v.op, v.x[v.op.axis]
    g.only(v, 0, layer.axis)
    for name in ("gamma", "beta"):
        g.use(layer, getattr(layer, name, None), "through", {-1: x})
    if x is None:
        return v.x
    groups = len(x) if layer.groups == -1 else layer.groups
    if groups == 1:
        g.freeze([x], f"{layer.name!r} normalises by statistics over all of them")
    rows = x.reshape(groups, -1)  # statistics run over a group: it goes as a whole
    g.labels.unite(rows, rows[:, :1])

    def edit(config, kept):
        if config["groups"] != -1:
            config["groups"] = groups * kept(x) // len(x)

    g.edit(layer, edit)
    return v.x


@rule("UnitNormalization")
def _unit(g, v):
    for axis in several(v.op.axis):
        g.counts(v.x[axis])  # zeros add nothing to the norm
    return v.x


@rule("Normalization")
def _normalization(g, v):
    layer = v.op
    if layer.input_mean is not None or layer.invert:
        g.freeze(v.x, f"{layer.name!r} has constants for each")
    elif layer.axis and layer.axis[0] % len(v.x) == len(v.x) - 1 and len(layer.axis) == 1:
        for name in ("adapt_mean", "adapt_variance"):
            g.use(layer, getattr(layer, name), "through", {-1: v.x[-1]})
    elif layer.axis:
        g.freeze(v.x, f"{layer.name!r} has constants for each")
    g.moves_zero(v.x)
    return v.x
