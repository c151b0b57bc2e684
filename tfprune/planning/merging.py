"""Merging: what reads a removed channel is added to what reads its like, instead of going too.

Data-free parameter pruning (Srinivas & Babu 2015, arXiv 1507.06149): where two channels are made
alike, a_i = a_j, and w_i a_i + w_j a_j = (w_i + w_j) a_j, exactly. Of others the best that can be
said of w_i a_i without data is w_i s a_j with

    s = |f_i| / |f_j| * (sin t + (pi - t) cos t) / pi

f all that makes a channel, normalisation included, and t the angle between two: s a_j is then the
least-squares fit of a_i where both are rectified and what they see is white (the arc-cosine kernel,
Cho & Saul 2009). It is 1 for duplicates, and 0 for opposites. The heir j is the one with the
smallest angle, for which the fit is best.
"""

from collections.abc import Iterator

import keras
import numpy as np
from sklearn.metrics import pairwise_distances_argmin

from tfprune.granularity.channel import unroll
from tfprune.graph.channels import Group, Member
from tfprune.planning.channel_plan import ChannelPlan

_Norm = keras.layers.BatchNormalization


# Of each group the channel that takes a channel's place, its own for those that stay, and the
# factor, (channels,) each.
Heirs = list[tuple[np.ndarray, np.ndarray]]


def alike(plan: ChannelPlan, masks: dict[str, np.ndarray]) -> Heirs:
    """Returns the kept channel that each removed one is most like."""
    return [_alike(_made(plan, group), kept) for group, kept in _kept(plan, masks)]


def nearest(plan: ChannelPlan, masks: dict[str, np.ndarray]) -> Heirs:
    """Returns the kept channel that each removed one is nearest to, by distance, with factor 1."""
    return [_nearest(_made(plan, group), kept) for group, kept in _kept(plan, masks)]


def merged(plan: ChannelPlan, heirs: Heirs) -> dict[str, np.ndarray]:
    """Returns {name: value} of what reads channels, with those that have an heir added to it."""
    names = {id(variable): name for name, variable in plan.variables.items()}
    values: dict[str, np.ndarray] = {}
    for (group, _), (heir, factor) in zip(plan.groups, heirs, strict=True):
        for member in group.members:
            name = names.get(id(member.slices.variable))
            if name is None or member.slices.role != "in":
                continue
            value = values.get(name, keras.ops.convert_to_numpy(member.slices.variable))
            values[name] = _added(value, member, heir, factor)
    return values


def _added(value: np.ndarray, member: Member, heir: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Returns a variable in which slices of channels are added to those of their heirs."""
    to = places(member, heir)
    moved = to != member.positions
    result = np.moveaxis(value.copy(), member.slices.axis, 0)
    factors = factor[member.index[moved]].reshape(-1, *[1] * (value.ndim - 1))
    np.add.at(result, to[moved], (factors * result[member.positions[moved]]).astype(value.dtype))
    return np.moveaxis(result, 0, member.slices.axis)


def places(member: Member, heir: np.ndarray) -> np.ndarray:
    """Returns for each of the member's positions that of its channel's heir, (n,).

    One channel may be at several places, as after a Flatten: each has its like.
    """
    order = np.argsort(member.index, kind="stable")
    channel = member.index[order]
    counts = np.bincount(channel, minlength=len(heir))
    first = np.cumsum(counts) - counts
    to = np.where(counts[heir[channel]] > 0, heir[channel], channel)
    place = np.arange(len(order)) - first[channel]
    result = np.empty_like(member.positions)
    result[order] = member.positions[order][first[to] + place % counts[to]]
    return result


def _nearest(made: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heir = np.arange(len(kept))
    if kept.any() and not kept.all():
        heir[~kept] = np.flatnonzero(kept)[pairwise_distances_argmin(made[~kept], made[kept])]
    return heir, np.ones(len(kept))


def _alike(made: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    heir, factor = np.arange(len(kept)), np.ones(len(kept))
    norms = np.linalg.norm(made, axis=1)
    able = kept & (norms > 0)
    if able.any() and not kept.all():
        unit = made / np.where(norms > 0, norms, 1)[:, None]
        cosine = np.clip(unit[~kept] @ unit[able].T, -1, 1)
        best = cosine.argmax(axis=1)
        angle = np.arccos(cosine[np.arange(len(best)), best])
        kernel = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
        heir[~kept] = np.flatnonzero(able)[best]
        factor[~kept] = norms[~kept] / norms[heir[~kept]] * kernel
    return heir, factor


def _kept(plan: ChannelPlan, masks: dict[str, np.ndarray]) -> Iterator[tuple[Group, np.ndarray]]:
    """Yields each group, and which of its channels the masks keep, (channels,)."""
    by_variable = {id(w): masks[name] for name, w in plan.variables.items() if name in masks}
    for group, _ in plan.groups:
        made = [m for m in group.made if id(m.slices.variable) in by_variable]
        rows = [_rows(by_variable[id(m.slices.variable)], m) for m in made]
        yield group, np.any([row.any(axis=1) for row in rows], axis=0)


def _made(plan: ChannelPlan, group: Group) -> np.ndarray:
    """Returns all that decides what a channel is, (channels, n): equal rows are equal channels.

    A batch normalisation is what it multiplies by and adds; where it follows a layer directly,
    that layer's weights are multiplied by it.
    """
    roots = plan.channels.roots
    norms = {id(norm): norm for norm in plan.norm.values()}
    before = {
        id(kernel.layer): plan.norm[kernel.name]
        for kernel in plan.kernels
        if kernel.name in plan.norm
    }
    along = {
        id(m.slices.layer): roots[m.slices.labels]
        for m in group.made
        if isinstance(m.slices.layer, _Norm)
    }
    blocks = []
    for member in group.made:
        layer, variable = member.slices.layer, member.slices.variable
        value = keras.ops.convert_to_numpy(variable)
        if isinstance(layer, _Norm):
            if variable is layer.moving_mean:
                gain, shift = _affine(layer)
                blocks += [_rows(shift, member)]
                blocks += [] if id(layer) in norms else [_rows(gain, member)]
            continue
        norm = before.get(id(layer))
        if norm is not None and np.array_equal(along.get(id(norm)), roots[member.slices.labels]):
            shape = [-1 if axis == member.slices.axis else 1 for axis in range(value.ndim)]
            value = value * _affine(norm)[0].reshape(shape)
        blocks.append(_rows(value, member))
    return np.concatenate(blocks, axis=1).astype(np.float64)


def _affine(norm: _Norm) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a batch normalisation multiplies by and adds as it infers, (channels,) each."""
    mean, variance = (
        keras.ops.convert_to_numpy(x) for x in (norm.moving_mean, norm.moving_variance)
    )
    gain = 1 / np.sqrt(variance + norm.epsilon)
    gain = gain * keras.ops.convert_to_numpy(norm.gamma) if norm.scale else gain
    shift = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    return gain, shift - mean * gain


def _rows(value: np.ndarray, member: Member) -> np.ndarray:
    return unroll(value, member.slices.axis, member.positions, member.index)
