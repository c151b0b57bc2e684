"""What tests of channel removal share: random weights, random channels, masked against shrunk."""

import keras
import numpy as np

from tfprune import surgery
from tfprune.graph import trace
from tfprune.graph.channels import Channels

# Which slices of a channel are zeroed: all, those that read it, or those that make it.
BOTH, READ, MADE = ("out", "through", "in"), ("in",), ("out", "through")


def randomise(model, seed=0):
    """Gives all weights values that an untrained model does not have, statistics as well."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if not keras.backend.is_float_dtype(weight.dtype):
            continue
        value = keras.ops.convert_to_numpy(weight)
        if any(name in weight.path for name in ("gamma", "scale", "variance")):
            weight.assign(rng.uniform(0.5, 1.5, value.shape))
        elif value.ndim < 2 or not value.std():
            weight.assign(rng.normal(0, 0.3, value.shape))
        else:
            fan_in = value.size / value.shape[-1]
            weight.assign(rng.normal(0, fan_in**-0.5, value.shape))
    for layer in trace.layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def inputs(model, n=2, seed=0, scale=1.0):
    """Returns random inputs of a model; sizes that are open are 8, whole numbers below 5."""
    rng = np.random.default_rng(seed)

    def draw(tensor):
        shape = (n, *(8 if size is None else size for size in tensor.shape[1:]))
        if keras.backend.is_float_dtype(tensor.dtype):
            return rng.normal(0, scale, shape).astype("float32")
        return rng.integers(0, 5, shape).astype(tensor.dtype)

    return keras.tree.map_structure(draw, trace.inputs(model))


def choose(channels, fraction=0.5, seed=0):
    """Returns which labels go: of each group that is not frozen this fraction, at random."""
    rng = np.random.default_rng(seed)
    gone = np.zeros(len(channels.labels), bool)
    for group in channels.groups():
        if not group.frozen:
            count = min(round(len(group) * fraction), len(group) - 1)
            gone[rng.permutation(group.labels)[:count]] = True
    return gone[channels.roots]


def mask(channels, gone, roles=BOTH):
    """Zeroes the trainable slices of these labels, in place."""
    for slices in channels.slices.values():
        if slices.variable.trainable and slices.role in roles:
            value = np.moveaxis(keras.ops.convert_to_numpy(slices.variable).copy(), slices.axis, 0)
            value[gone[slices.labels]] = 0
            slices.variable.assign(np.moveaxis(value, 0, slices.axis))


def error(a, b):
    """Returns the largest difference of two outputs relative to the largest value."""
    pairs = zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True)
    arrays = [[keras.ops.convert_to_numpy(x) for x in pair] for pair in pairs]
    assert all(p.shape == q.shape and np.isfinite(p).all() for p, q in arrays)
    return max(np.abs(p - q).max() / np.abs(p).max() for p, q in arrays)


def allowed(channels, gone, roles):
    """Returns which of these labels can go when only slices of these roles are zero."""
    if roles == READ:
        return gone & ~channels.counted
    return gone & ~channels.moved if roles == MADE else gone


def difference(model, channels, gone, roles=BOTH, x=None):
    """Returns the error of the shrunk against the masked model, and the shrunk one.

    The model's weights are as they were afterwards.
    """
    before = model.get_weights()
    x = inputs(model) if x is None else x
    gone = allowed(channels, gone, roles)
    mask(channels, gone, roles)
    small = surgery.remove(model, channels, gone)  # first: a call may change states
    masked = model(x, training=False)
    found = error(masked, small(x, training=False))
    model.set_weights(before)
    return found, small


def shrinks(model, *, random=True, tolerance=1e-5, x=None, draws=(BOTH, READ, MADE)):
    """Asserts that masked and shrunk agree for several draws of channels.

    Returns:
      The channels, {name: group}, and the smallest model.
    """
    if random:
        randomise(model)
    channels = Channels(model)
    sizes = []
    for seed, roles in enumerate(draws):
        gone = choose(channels, (0.5, 0.3, 0.7)[seed % 3], seed)
        assert gone.any(), {g.name: g.frozen for g in channels.groups()}
        found, small = difference(model, channels, gone, roles, x)
        assert found <= tolerance, f"{found} in draw {seed} of {roles}"
        sizes.append((small.count_params(), seed, small))
    assert min(sizes)[0] < model.count_params()
    return channels, {g.name: g for g in channels.groups()}, min(sizes)[2]


def plant(model, copies=2):
    """Makes the last channels of every group equal to its first: all that makes and passes them."""
    for group in Channels(model).groups():
        for member in group.made:
            if group.frozen:
                continue
            rows = np.moveaxis(
                keras.ops.convert_to_numpy(member.slices.variable).copy(), member.slices.axis, 0
            )
            first = member.positions[member.index == 0]
            for copy in range(len(group) - copies, len(group)):
                rows[member.positions[member.index == copy]] = rows[first]
            member.slices.variable.assign(np.moveaxis(rows, 0, member.slices.axis))
