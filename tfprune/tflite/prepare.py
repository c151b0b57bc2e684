"""`prepare_for_sparse_inference`: the same function in the form that XNNPACK runs sparse."""

from __future__ import annotations

import collections
import logging
from typing import TYPE_CHECKING

from tfprune import masks, sharing
from tfprune.graph import kernels as k
from tfprune.graph import trace as tracing
from tfprune.tflite import rewrites, sparse_inference

if TYPE_CHECKING:
    import keras
    import numpy as np

log = logging.getLogger("tfprune")


def prepare_for_sparse_inference(model: keras.Model) -> keras.Model:
    """Returns a copy of `model` that computes the same and breaks fewer of XNNPACK's rules.

    See `tfprune.tflite.rewrites` for what is rewritten. Names of layers, weights, masks and what
    the model was compiled with stay; the optimizer starts anew. Zeros stay zeros. Kernels that are
    embedded in larger ones bring more, which training may fill unless masks hold them. The log has
    a line for each rewrite, and a warning for each rule that is still broken, with the remedy, as
    `tfprune.explain_sparse_inference` tells them from the converted file.

    Raises:
      ValueError: for a model that is subclassed, not built, or leaves its input size open.
      RuntimeError: if it can't be converted.

    Example:
      >>> model = tfprune.prepare_for_sparse_inference(tfprune.prune(model, "sparsity:0.9"))
    """
    if not tracing.is_graph(model):
        raise ValueError(
            f"model {model.name!r} is not built, or is subclassed, so that there is no graph to "
            "rewrite: it takes a functional or sequential model"
        )
    done = 0
    prepared = model
    for rewrite in rewrites.ALL:
        edits = _edits(prepared, rewrite)
        done += len(edits)
        if edits or prepared is model:
            prepared = _edited(prepared, edits)
    table = sparse_inference.explain_sparse_inference(prepared)
    broken = table[table["rule"] != ""]
    for row in broken.itertuples():
        log.warning("%s (%s): %s; %s", row.name, row.kind, row.rule, row.remedy)
    log.info("%d layers rewritten, %d operators still break a rule", done, len(broken))
    return prepared


def _graphs(model: keras.Model) -> list[keras.Model]:
    """Returns the model and the models inside it, at any depth, each once."""
    found = {id(x): x for x in tracing.layers(model) if tracing.is_graph(x)}
    return list(found.values())


def _edits(model: keras.Model, rewrite: rewrites.Rewrite) -> rewrites.Edits:
    graphs = [tracing.graph(inner) for inner in _graphs(model)]
    calls = collections.Counter(id(node.operation) for graph in graphs for node in graph.nodes)
    once = {key for key, count in calls.items() if count == 1}
    edits: rewrites.Edits = {}
    for graph in graphs:
        found = rewrite(graph, once)
        for node in graph.nodes:
            if id(node.operation) in found:
                log.info("%s: %s", node.operation.name, found[id(node.operation)].said)
        edits |= found
    return edits


def _edited(model: keras.Model, edits: rewrites.Edits) -> keras.Model:
    """Returns a copy of the model with some layers changed, weights and masks along."""
    import keras

    copies: dict[int, keras.Operation] = {}
    originals: dict[int, keras.Operation] = {}

    def copy(op: keras.Operation) -> keras.Operation:
        if id(op) not in copies:  # a layer that is used twice stays one
            copies[id(op)] = new = whole(op) if tracing.is_graph(op) else single(op)
            originals[id(new)] = op
        return copies[id(op)]

    def single(op: keras.Operation) -> keras.Operation:
        edit = edits.get(id(op))
        if edit is None:
            return type(op).from_config(op.get_config())
        if edit.kind is not None:
            return edit.kind(**edit.config)
        return type(op).from_config(op.get_config() | edit.config)

    def chain(op: keras.Operation) -> list[keras.Operation]:
        """Returns what is called where `op`, an original, was."""
        edit = edits.get(id(op))
        if edit is None:
            return [copy(op)]
        return [*edit.before, *([] if edit.dropped else [copy(op)]), *edit.after]

    def call(new: keras.Operation, *args: object, **kwargs: object) -> object:
        original = originals[id(new)]
        if id(original) not in edits:
            return new(*args, **kwargs)
        x = next(a for a in keras.tree.flatten((args, kwargs)) if keras.backend.is_keras_tensor(a))
        for op in chain(original):
            x = op(x)
        return x

    def whole(graph: keras.Model) -> keras.Model:
        if isinstance(graph, keras.Sequential):
            inside = [new for layer in graph.layers for new in chain(layer)]
            return keras.Sequential([again(graph.inputs[0]), *inside], name=graph.name)
        return keras.models.clone_model(
            graph,
            clone_function=copy,
            call_function=call,
            input_tensors=keras.tree.map_structure(again, graph.input),
        )

    def again(x: keras.KerasTensor) -> keras.KerasTensor:
        return keras.Input(batch_shape=x.shape, dtype=x.dtype, name=names.get(id(x), x.name))

    names = {
        id(layer.output): layer.name
        for graph in _graphs(model)
        for layer in graph.layers
        if isinstance(layer, keras.layers.InputLayer)
    }

    result = copy(model)
    _carry(model, result, copies, edits)
    if model.compiled:
        result.compile_from_config(model.get_compile_config())
    return result


def _carry(
    model: keras.Model,
    result: keras.Model,
    copies: dict[int, keras.Operation],
    edits: rewrites.Edits,
) -> None:
    """Gives weights, masks and sharing of the model to its copy."""
    import keras

    old_names = {id(variable): name for name, variable in k.named(model).items()}
    new_names = {id(variable): name for name, variable in k.named(result).items()}
    held, shared = masks.of(model), sharing.of(model)
    new_masks, new_shared = {}, {}
    for op in _leaves(model):
        edit, new = edits.get(id(op)), copies.get(id(op))
        if new is None or (edit is not None and edit.dropped):
            continue
        for i, (before, after) in enumerate(zip(op.weights, new.weights, strict=True)):
            layout = edit.layout if edit is not None and i == 0 else None
            scale = edit.scale if edit is not None and i == 0 else 1.0

            def laid_out(array: np.ndarray, layout: object = layout) -> np.ndarray:
                return array if layout is None else layout(array)

            value = laid_out(keras.ops.convert_to_numpy(before))
            after.assign(value * scale if scale != 1.0 else value)
            name = old_names.get(id(before))
            if name in held:
                new_masks[new_names[id(after)]] = laid_out(held[name])
            if name in shared:
                new_shared[new_names[id(after)]] = laid_out(shared[name])
        if isinstance(new, keras.layers.Normalization):
            new.finalize_state()  # what it computes with is a copy of its weights
    masks.attach(result, new_masks)
    sharing.attach(result, new_shared)


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers that were copied as a whole: those of all graphs but the graphs."""
    found = {
        id(layer): layer
        for graph in _graphs(model)
        for layer in graph.layers
        if not tracing.is_graph(layer)
    }
    return list(found.values())
