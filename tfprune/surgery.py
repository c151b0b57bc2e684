"""`shrink`: removes the channels that pruning emptied, and leaves a smaller plain Keras model."""

import logging
from collections.abc import Callable

import keras
import numpy as np

from tfprune import masks, sharing
from tfprune.graph import kernels as k
from tfprune.graph import trace as tracing
from tfprune.graph.channels import Channels, Group

log = logging.getLogger("tfprune")

# Takes the positions that stay out of an array that is laid out as a variable.
Cut = Callable[[keras.Variable, np.ndarray], np.ndarray]


def shrink(model: keras.Model) -> keras.Model:
    """Returns a smaller plain Keras model that computes the same function as `model`.

    What goes are coupled channels that nothing reads (all weights that do are zero), or that are
    zero themselves and stay so until they are read, such as `granularity="channel"` leaves them.
    One channel of each layer always stays. The optimizer's state is cut along. Where there is
    nothing to remove, a copy comes back and the log says so.

    Example:
      >>> small = tfprune.shrink(tfprune.prune(model, "macs:0.5", granularity="channel"))

    Raises:
      ValueError: for a model that is not built, is subclassed, or has data_format channels_first;
        for one whose every channel is frozen, with the reasons.
    """
    channels = Channels(model)
    groups = channels.groups()
    if groups and all(group.frozen for group in groups):
        reasons = "; ".join(f"{g.name}: {g.frozen}" for g in groups[:5])
        raise ValueError(f"model {model.name!r}: every channel is frozen ({reasons})")
    gone = _empty(channels, groups)
    if not gone.any():
        log.warning(
            "model %r has no channel that is empty, so that its copy is no smaller: "
            "granularity='channel' of tfprune.prune makes some",
            model.name,
        )
    return remove(model, channels, gone)


def _empty(channels: Channels, groups: list[Group]) -> np.ndarray:
    """Returns for each label whether its channel can be removed, (labels,)."""
    roots = channels.roots
    count = len(roots)
    read, made = np.zeros(count, bool), np.zeros(count, bool)
    alive: dict[int, np.ndarray] = {}
    for slices in channels.slices.values():
        variable, axis = slices.variable, slices.axis
        if not variable.trainable and slices.role == "through":
            continue  # statistics
        if id(variable) not in alive:  # both axes of a kernel come one after the other
            alive = {id(variable): keras.ops.convert_to_numpy(variable) != 0}
        others = tuple(i for i in range(len(variable.shape)) if i != axis)
        used = roots[slices.labels[alive[id(variable)].any(axis=others)]]
        (read if slices.role == "in" else made)[used] = True
    empty = (~read & ~channels.counted) | (~made & ~channels.moved)
    removable = np.zeros(count, bool)
    for group in groups:
        if not group.frozen:
            chosen = empty[group.labels]
            if chosen.all():
                chosen[0] = False  # a layer of no channels is no layer
            removable[group.labels] = chosen
    return removable[roots]


def remove(model: keras.Model, channels: Channels, gone: np.ndarray) -> keras.Model:
    """Returns `model` without the channels whose labels are `gone`, (labels,)."""
    cuts: dict[int, dict[int, np.ndarray]] = {}
    for (variable, axis), slices in channels.slices.items():
        if gone[slices.labels].any():
            cuts.setdefault(variable, {})[axis] = np.flatnonzero(~gone[slices.labels])

    def cut(variable: keras.Variable, array: np.ndarray) -> np.ndarray:
        for axis, positions in cuts.get(id(variable), {}).items():
            array = np.take(array, positions, axis=axis)
        return array

    small = _rebuilt(model, channels, gone)
    for old, new in zip(model.weights, small.weights, strict=True):
        value = cut(old, keras.ops.convert_to_numpy(old))
        if value.shape != tuple(new.shape):
            raise ValueError(
                f"{old.path}: {value.shape} weights are left for a shape of {tuple(new.shape)}; "
                "is the rule of its layer (tfprune.channel_rule) right?"
            )
        new.assign(value)
    for layer in tracing.layers(small):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # what it computes with is a copy of its weights
    _carry_constraints(model, small, cut)
    if model.compiled:
        small.compile_from_config(model.get_compile_config())
        _carry_optimizer(model, small, cut)
    return small


def _rebuilt(model: keras.Model, channels: Channels, gone: np.ndarray) -> keras.Model:
    """Returns a model of the same graph with fewer channels, its weights new."""

    def kept(labels: np.ndarray) -> int:
        return int(np.count_nonzero(~gone[labels]))

    originals: dict[int, keras.Operation] = {}
    copies: dict[int, keras.Operation] = {}

    def copy(op: keras.Operation) -> keras.Operation:
        if id(op) not in copies:  # a layer that is used twice stays one
            copies[id(op)] = whole(op) if tracing.is_graph(op) else single(op)
        return copies[id(op)]

    def single(op: keras.Operation) -> keras.Operation:
        config = op.get_config()
        channels.edited(op, config, kept)
        new = type(op).from_config(config)
        originals[id(new)] = op
        return new

    def call(op: keras.Operation, *args: object, **kwargs: object) -> object:
        original = originals.get(id(op), op)
        args, kwargs = channels.changed_call(original, args, kwargs, kept)
        return op(*args, **kwargs)

    def whole(graph: keras.Model) -> keras.Model:
        # Keras would give the inputs of a model inside the model the size that they had.
        inputs = iter(zip(graph.inputs, channels.entry(graph), strict=True))

        def smaller(_: keras.KerasTensor) -> keras.KerasTensor:
            x, axes = next(inputs)
            sizes = zip(x.shape, axes, strict=True)
            shape = [n if labels is None else kept(labels) for n, labels in sizes]
            return keras.Input(batch_shape=shape, dtype=x.dtype, name=x.name)

        if isinstance(graph, keras.Sequential):
            return keras.models.clone_model(
                graph, clone_function=copy, input_tensors=smaller(graph.inputs[0])
            )
        return keras.models.clone_model(
            graph,
            clone_function=copy,
            call_function=call,
            input_tensors=keras.tree.map_structure(smaller, graph.input),
        )

    return whole(model)


def _carry_constraints(model: keras.Model, small: keras.Model, cut: Cut) -> None:
    """Attaches to `small` the masks of `model` that still prune something in it, and sharing."""
    variables = k.named(model)
    names = dict(zip(variables, k.named(small), strict=True))

    def left(held: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {names[old]: cut(variables[old], value) for old, value in held.items()}

    masks.attach(small, {n: mask for n, mask in left(masks.of(model)).items() if not mask.all()})
    sharing.attach(small, left(sharing.of(model)))


def _carry_optimizer(model: keras.Model, small: keras.Model, cut: Cut) -> None:
    """Cuts the optimizer's state as its variables were, or leaves it new, and says which."""
    old, new = model.optimizer, small.optimizer
    if not old.built:
        return
    new.build(small.trainable_variables)
    owners = {_slot(w): w for w in model.trainable_variables}
    values = []
    for before, after in zip(old.variables, new.variables, strict=True):
        value = keras.ops.convert_to_numpy(before)
        # A slot's name begins with that of its variable; the longest that fits is its own.
        names = [n for n in owners if before.name.startswith(n + "_")]
        if names:
            value = cut(owners[max(names, key=len)], value)
        if value.shape != tuple(after.shape):
            log.warning(
                "the state of optimizer %s does not follow its variables (%s): it starts anew",
                old.name,
                before.path,
            )
            return
        values.append(value)
    for after, value in zip(new.variables, values, strict=True):
        after.assign(value)
    log.info("the state of optimizer %s was cut along with the weights", old.name)


def _slot(variable: keras.Variable) -> str:
    """Returns what the names of the optimizer's slots for this variable begin with."""
    return variable.path.replace("/", "_")
