"""Attention: whole heads go, with their queries, keys, values and rows of the output kernel."""

import keras
import numpy as np

from tfprune.graph import trace as tracing
from tfprune.graph.rules import rule, unknown


def _projections(layer):
    inner = tracing.layers(layer)
    return [x for x in inner if isinstance(x, keras.layers.EinsumDense)]


def _tensors(v):
    """Returns the labels of query, value and key."""
    by_id = {id(x): axes for x, axes in zip(v.inputs, v.axes, strict=True)}
    names = ("query", "value", "key")
    query, value, key = (by_id.get(id(v.argument(name))) for name in names)
    return query, value, value if key is None else key


def _attend(g, v, heads, groups, counts):
    """Notes the uses of the projections; `heads` are labels of queries, `groups` of keys."""
    layer = v.op
    query, value, key = _tensors(v)
    if query is None or value is None:
        return unknown(g, v)
    first, keys, *gate, values, last = _projections(layer)
    for axes in (query, value, key):
        g.freeze(axes[1:-1], f"{layer.name!r} attends along them")
    sides = [(first, query, heads), (keys, key, groups), (values, value, groups)]
    for dense, source, own in [*sides, *((x, query, heads) for x in gate)]:
        g.use(dense, dense.kernel, "in", {0: source[-1]})
        g.use(dense, dense.kernel, "out", {1: own})
        g.use(dense, dense.bias, "out", {0: own})
    g.heads.append((layer, heads))
    out = g.fresh(last.kernel.shape[-1])
    g.use(last, last.kernel, "in", {0: heads})
    g.use(last, last.kernel, "out", {2: out})
    g.use(last, last.bias, "out", {0: out})
    g.resize(layer, **counts)
    return query, out


@rule("MultiHeadAttention")
def _multi_head(g, v):
    layer = v.op
    if len(v.outputs) > 1 or len(_projections(layer)[-1].kernel.shape) != 3:
        return unknown(g, v)
    heads = g.fresh(layer.num_heads)
    done = _attend(g, v, heads, heads, {"num_heads": heads})
    if isinstance(done, list):
        return done
    query, out = done
    # Its width is that of the query unless it is given: from now on it is.
    g.resize(layer, num_heads=heads, output_shape=out)
    return [*query[:-1], out]


@rule("GroupedQueryAttention")
def _group_query(g, v):
    layer = v.op
    if len(v.outputs) > 1:
        return unknown(g, v)
    groups = g.fresh(layer.num_key_value_heads)
    heads = np.repeat(groups, layer.num_query_heads // len(groups))
    counts = {"num_query_heads": heads, "num_key_value_heads": groups}
    done = _attend(g, v, heads, groups, counts)
    if isinstance(done, list):
        return done
    query, out = done
    return [*query[:-1], g.unite(out, query[-1])]  # it is always as wide as the query
