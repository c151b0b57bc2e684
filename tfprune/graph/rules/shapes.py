"""Operations that move channels about: join, repeat, take, permute, pool."""

import keras
import numpy as np

from tfprune.graph.rules import rule, several, unknown


@rule("Concatenate")
def _concatenate(g, v):
    axis = v.axis(v.op.axis)
    result = list(v.x)
    for axes in v.axes[1:]:
        for i, labels in enumerate(axes):
            if i != axis and (labels is not None or result[i] is not None):
                result[i] = g.unite(result[i], labels)
    parts = [axes[axis] for axes in v.axes]
    if any(labels is not None for labels in parts):
        fixed = [g.fresh(shape[axis]) for shape in v.shapes]
        g.freeze([f for f, x in zip(fixed, parts, strict=True) if x is None], "they are fixed")
        parts = [f if x is None else x for f, x in zip(fixed, parts, strict=True)]
        result[axis] = np.concatenate(parts)
    return result


@rule("Split")
def _split(g, v):
    axis = v.axis(v.op.axis)
    labels, sections = v.x[axis], v.op.indices_or_sections
    if labels is None:
        return [v.x for _ in v.outputs]
    pieces = np.split(labels, sections)
    for piece in pieces:
        g.part(piece)

    def edit(config, kept):
        config["indices_or_sections"] = np.cumsum([kept(p) for p in pieces])[:-1].tolist()

    g.edit(v.op, edit)
    return [[*v.x[:axis], piece, *v.x[axis + 1 :]] for piece in pieces]


@rule("GetItem")
def _get_item(g, v):
    key = v.argument("key")
    parts = list(key) if isinstance(key, (tuple, list)) else [key]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        named = sum(p is not None and p is not Ellipsis for p in parts)
        parts[at : at + 1] = [slice(None)] * (len(v.x) - named)
    parts += [slice(None)] * (len(v.x) - sum(p is not None for p in parts))
    if not all(p is None or isinstance(p, (int, slice)) for p in parts):
        return unknown(g, v)
    result, cut, axis = [], {}, 0
    for place, part in enumerate(parts):
        if part is None:
            result.append(None)
            continue
        labels = v.x[axis]
        axis += 1
        if isinstance(part, int):
            g.freeze([labels], f"{v.op.name!r} takes one of them")
        elif labels is None or part == slice(None):
            result.append(labels)
        elif part.step not in (None, 1):
            g.freeze([labels], f"{v.op.name!r} takes some of them by steps")
            result.append(labels[part])
        else:
            result.append(labels[part])
            g.part(labels[part])
            cut[place] = labels, *part.indices(len(labels))[:2]

    def change(args, kwargs, kept):
        new = list(parts)
        for place, (labels, start, stop) in cut.items():
            new[place] = slice(kept(labels[:start]), kept(labels[:stop]))
        return (args[0], tuple(new)), {}

    if cut:
        g.call_with(v.op, change)
    return result


@rule("Reshape", "Flatten")
def _reshape(g, v):
    shape, out = v.shapes[0], v.outputs[0]
    along = [i for i, labels in enumerate(v.x) if labels is not None]
    if not along:
        return [None] * len(out)
    if len(along) > 1 or None in shape[1:] or None in out[1:] or along == [0]:
        return unknown(g, v)
    axis = along[0]
    spread = v.x[axis].reshape([-1 if i == axis else 1 for i in range(1, len(shape))])
    spread = np.broadcast_to(spread, shape[1:]).reshape(out[1:])
    axes = list(range(spread.ndim))
    # Where the labels end up along one axis, that is theirs; where along several, as when channels
    # are split into groups, those that stand at one place of the longest axis become one.
    varies = [i for i in axes if (np.diff(spread, axis=i) != 0).any()] or [spread.ndim - 1]
    home = max(varies, key=lambda i: (spread.shape[i], i))
    first = spread[tuple(slice(None) if i == home else 0 for i in axes)]
    g.labels.unite(spread, first.reshape([-1 if i == home else 1 for i in axes]))
    result = [None, *(first if i == home else None for i in axes)]

    def edit(config, kept):
        key = "target_shape" if "target_shape" in config else "newshape"
        target = list(config[key])
        place = home if key == "target_shape" else home + 1
        if target[place] != -1:
            target[place] = kept(first)
        config[key] = tuple(target)

    if type(v.op).__name__ == "Reshape":
        g.edit(v.op, edit)
    return result


@rule("Permute")
def _permute(g, v):
    del g
    return [v.x[0], *(v.x[i] for i in v.op.dims)]


@rule("Transpose")
def _transpose(g, v):
    del g
    return [v.x[i] for i in v.op.axes or range(len(v.x))[::-1]]


@rule("Swapaxes")
def _swapaxes(g, v):
    del g
    result = v.x
    result[v.op.axis1], result[v.op.axis2] = result[v.op.axis2], result[v.op.axis1]
    return result


@rule("Moveaxis")
def _moveaxis(g, v):
    del g
    numbers = np.moveaxis(np.empty(range(len(v.x))), v.op.source, v.op.destination).shape
    return [v.x[i] for i in numbers]


@rule("ExpandDims")
def _expand_dims(g, v):
    del g
    result = v.x
    for axis in sorted(a % len(v.outputs[0]) for a in several(v.op.axis)):
        result.insert(axis, None)
    return result


@rule("Squeeze")
def _squeeze(g, v):
    axes = several(v.op.axis)
    if axes == [None]:
        axes = [i for i, size in enumerate(v.shapes[0]) if size == 1]
        g.edit(v.op, lambda config, kept: config.update(axis=tuple(axes)))
    gone = {v.axis(a) for a in axes}
    g.freeze([v.x[a] for a in gone], f"{v.op.name!r} needs them to be one")
    return [labels for i, labels in enumerate(v.x) if i not in gone]


@rule("Repeat")
def _repeat(g, v):
    if v.op.axis is None or not isinstance(v.op.repeats, int):
        return unknown(g, v)
    result, axis = v.x, v.axis(v.op.axis)
    if result[axis] is not None:
        result[axis] = np.repeat(result[axis], v.op.repeats)
    return result


@rule("Tile")
def _tile(g, v):
    repeats = v.op.repeats
    if not isinstance(repeats, (tuple, list)) or len(repeats) != len(v.x):
        return unknown(g, v)
    return [x if x is None else np.tile(x, n) for x, n in zip(v.x, repeats, strict=True)]


@rule("RepeatVector")
def _repeat_vector(g, v):
    del g
    return [v.x[0], None, v.x[1]]


@rule("Pad")
def _pad(g, v):
    widths = [tuple(w) for w in v.op.pad_width]
    widths = widths * len(v.x) if len(widths) == 1 else widths
    value = v.argument("constant_values")
    if value is not None and not isinstance(value, (int, float)):
        return unknown(g, v)
    result = v.x
    ends = {}
    for axis, (before, after) in enumerate(widths):
        labels = result[axis]
        if labels is None or before == after == 0:
            continue
        if v.op.mode != "constant":
            g.freeze([labels], f"{v.op.name!r} pads along them")
            continue
        ends[axis] = g.fresh(before), g.fresh(after)
        result[axis] = np.concatenate([ends[axis][0], labels, ends[axis][1]])
    if value:
        g.moves_zero(result)

    def edit(config, kept):
        new = list(widths)
        for axis, (before, after) in ends.items():
            new[axis] = kept(before), kept(after)
        config["pad_width"] = new

    if ends:
        g.edit(v.op, edit)
    return result


_POOLED = [f"{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)]
_POOLED += [f"Adaptive{name}" for name in _POOLED]
_POOLED += [f"{kind}{n}D" for kind in ("ZeroPadding", "Cropping", "UpSampling") for n in (1, 2, 3)]
_POOLED += ["Resizing", "Resize", "MaxPool", "AveragePool"]


@rule(*_POOLED)
def _pool(g, v):
    layout = getattr(v.op, "data_format", None) or keras.config.image_data_format()
    if layout == "channels_first":
        return unknown(g, v)
    g.only(v, 0, -1)
    if getattr(v.op, "pad_to_aspect_ratio", False) and v.op.fill_value:
        g.moves_zero(v.x)
    return v.x


@rule(*[f"Global{kind}Pooling{n}D" for kind in ("Max", "Average") for n in (1, 2, 3)])
def _global_pool(g, v):
    g.only(v, 0, -1)
    between = [None] * (len(v.outputs[0]) - 2)
    return [v.x[0], *between, v.x[-1]]


@rule("Mean", "Sum", "Max", "Min", "Amax", "Amin", "Var", "Std", "Prod", "Any", "All")
def _reduce(g, v):
    over = _over(v)
    g.freeze([v.x[i] for i in over], f"{v.op.name!r} reduces over them")
    if getattr(v.op, "initial", None) is not None:
        g.moves_zero(v.x)
    if v.op.keepdims:
        return [None if i in over else labels for i, labels in enumerate(v.x)]
    return [labels for i, labels in enumerate(v.x) if i not in over]


@rule("Flip")
def _flip(g, v):
    del g
    flipped = _over(v)
    return [x if x is None or i not in flipped else x[::-1] for i, x in enumerate(v.x)]


def _over(v):
    """Returns the axes that an operation works along, counted from the front; None is all."""
    axes = range(len(v.x)) if v.op.axis is None else several(v.op.axis)
    return {v.axis(a) for a in axes}


@rule("TimeDistributed")
def _time_distributed(g, v):
    layer = v.op.layer
    if isinstance(layer, keras.Model):
        return unknown(g, v)
    g.freeze([v.x[1]], "TimeDistributed runs along them")
    result = g.inner(layer, v, 1)

    def edit(config, kept):
        g.edited_inside(layer, config["layer"], kept)

    g.edit(v.op, edit)
    return result
