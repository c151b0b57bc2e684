"""TensorFlow Model Optimization under the same protocol: its pruning, its training, our record.

`prune_low_magnitude` (Zhu & Gupta 2017, arXiv 1710.01878; TFMOT 0.8.1) needs Keras 2. So the
network is carried over to tf-keras, layer by layer, and pruned and trained there in a process of
its own: from the same weights, on the same batches in the same order, which that process loads
itself, with the same loss, optimizer and learning rates. The first batch, and what the network
makes of it, are compared before anything is trained.

TFMOT has one sparsity s for all kernels that it prunes. That which leaves the model 1 / X of its N
parameters, F of them in what is left dense, is

    s = (N - N / X) / (N - F)
"""

import glob
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfprune import losses, pruning, registry
from tfprune.evaluation import _tfmot_worker as worker
from tfprune.graph import kernels as k
from tfprune.measurement.devices import _process
from tfprune.planning import Recipe
from tfprune.planning.recipe import Plan

SCHEDULES = ("constant", "polynomial")
# What both Keras have, meaning the same by the same settings.
_LAYERS = (
    *("Activation", "ELU", "PReLU", "ReLU", "Softmax"),
    *("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("AveragePooling1D", "GlobalAveragePooling1D", "GlobalMaxPooling1D", "MaxPooling1D"),
    *("AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "MaxPooling2D"),
    *("BatchNormalization", "Dropout", "SpatialDropout2D", "Rescaling"),
    *("Conv1D", "Conv2D", "Dense", "DepthwiseConv2D", "InputLayer", "SeparableConv2D"),
    *("Cropping2D", "Flatten", "Permute", "Reshape", "UpSampling2D", "ZeroPadding2D"),
)


def tuned(
    model: keras.Model,
    target: str,
    *,
    protect: Sequence[str],
    train: tf.data.Dataset,
    data: Mapping[str, object],
    seed: int,
    steps: int,
    learning_rate: float,
    optimizer: str,
    schedule: str = "constant",
) -> keras.Model:
    """Returns a copy of `model` that TFMOT has pruned and trained.

    Args:
      model: a functional or sequential model of Keras's own layers, in float32.
      target: such as `"compression:8"`, see `tfprune.targets`.
      protect: names or glob patterns of layers to leave dense.
      train: a fresh `splits.shuffled(seed)` of `splits = tfprune.data.load(**data)`.
      data: arguments of `tfprune.data.load`, which JSON can hold.
      seed: of the order of examples, and of dropout.
      steps: of training.
      learning_rate: at the first step; it falls along a cosine.
      optimizer: as in `tfprune.evaluation.tuning.tune`.
      schedule: "constant", all is pruned before the first step, or "polynomial", in TFMOT's way
        over the first half of the steps.

    Raises:
      ValueError: for a layer that can't be carried over, a target that can't be met, or labels
        that don't fit.
      RuntimeError: if TFMOT's process fails; its traceback is a note.
    """
    if schedule not in SCHEDULES:
        raise registry.unknown("schedule", schedule, SCHEDULES)
    plan = _plan(model, target, protect)
    x, y = next(iter(train))
    outputs = model(x, training=False).numpy()
    loss = losses.fitting(model, y.numpy(), outputs)
    request = {
        "model": architecture(model),
        "pruned": sorted({kernel.layer.name for kernel in plan.kernels}),
        "sparsity": plan.level,
        "schedule": schedule,
        "data": dict(data),
        "seed": seed,
        "steps": steps,
        "learning_rate": learning_rate,
        "optimizer": optimizer,
        "loss": _loss(loss),
    }
    result = pruning.clone(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request))
        np.savez(folder / "arrays.npz", *model.get_weights(), x=x, y=y, outputs=outputs)
        _run([sys.executable, "-m", worker.__name__, name], folder / "stderr")
        with np.load(folder / "weights.npz") as file:
            result.set_weights(worker.weights(dict(file)))
    return result


def _plan(model: keras.Model, target: str, protect: Sequence[str]) -> Plan:
    """Returns the plan for what TFMOT prunes of `model`: no depthwise kernels.

    Raises:
      ValueError: if the target can't be met.
    """
    everything, _ = k.find(model)
    left_out = [glob.escape(x.name) for x in everything if _is_depthwise(x)]
    recipe = Recipe.of(target, allocation="uniform", protect=(*protect, *left_out))
    plan = recipe.bind(model)
    plan.check()
    return plan


def _is_depthwise(kernel: k.Kernel) -> bool:
    return (
        isinstance(kernel.layer, keras.layers.DepthwiseConv2D)
        or kernel.variable.name == "depthwise_kernel"
    )


def _loss(loss: keras.losses.Loss) -> dict[str, object]:
    """Returns the name and the settings that a loss has in both Keras."""
    config = loss.get_config()
    shared = {key: config[key] for key in ("from_logits",) if key in config}
    return {"name": type(loss).__name__, "config": shared}


def architecture(model: keras.Model) -> dict[str, object]:
    """Returns the config by which tf-keras builds `model`, as a functional one.

    Raises:
      ValueError: for a subclassed model, or a layer that can't be carried over, with its name.
    """
    # The class of functional models has no public name.
    if not isinstance(model, keras.Sequential) and type(model).__name__ != "Functional":
        raise ValueError(
            f"model {model.name!r} ({type(model).__name__}) can't be carried over to tf-keras: it "
            "has to be functional or sequential"
        )
    config = model.get_config()
    layers = [_layer(layer) for layer in config["layers"]]
    if isinstance(model, keras.Sequential):
        names = [layer["name"] for layer in layers]
        if layers[0]["class_name"] != "InputLayer":
            raise ValueError(f"model {model.name!r} starts without keras.Input")
        for layer, before in zip(layers[1:], names[:-1], strict=True):
            layer["inbound_nodes"] = [[[before, 0, 0, {}]]]
        ends = [[names[0], 0, 0]], [[names[-1], 0, 0]]
    else:
        ends = _ends(config["input_layers"]), _ends(config["output_layers"])
    return {
        "name": config["name"],
        "layers": layers,
        "input_layers": ends[0],
        "output_layers": ends[1],
    }


def _ends(places: list) -> list[list]:
    """Returns [[layer, node, tensor], ...]; Keras 3 writes a single one by itself."""
    return [places] if isinstance(places[0], str) else places


def _layer(said: Mapping[str, object]) -> dict[str, object]:
    """Returns a layer of a Keras 3 config as tf-keras writes it.

    Raises:
      ValueError: if tf-keras has none like it.
    """
    kind, config = said["class_name"], dict(said["config"])
    name = config.get("name")
    if said["module"] == "keras.src.ops.numpy" and kind == "Pad" and config["mode"] == "constant":
        return _padding(said)
    if kind not in _LAYERS or said["module"] != "keras.layers" or said["registered_name"]:
        raise ValueError(
            f"layer {name!r} ({kind}) can't be carried over to tf-keras, which TFMOT needs"
        )
    dtype = config.pop("dtype", None)
    if isinstance(dtype, dict):
        dtype = dtype["config"]["name"]
    if kind == "InputLayer":
        config = {"batch_input_shape": config["batch_shape"], "name": name}
    elif dtype != "float32":
        raise ValueError(f"layer {name!r} computes in {dtype}: TFMOT is given float32 only")
    config.pop("quantization_config", None)
    if kind == "BatchNormalization":
        config["fused"] = False  # it estimates the variance otherwise than Keras 3 does
    config = {key: _part(value, name) for key, value in config.items()}
    # The weights come later.
    config = {key: value for key, value in config.items() if not key.endswith("_initializer")}
    return {
        "class_name": kind,
        "name": name,
        "config": config | {"dtype": dtype},
        "inbound_nodes": [_node(node) for node in said.get("inbound_nodes", ())],
    }


def _padding(said: Mapping[str, object]) -> dict[str, object]:
    """Returns `keras.ops.pad`, which shortcuts of residual networks are made with."""
    (node,) = said["inbound_nodes"]
    ((*tensor, settings),) = _node(node)
    padding = {"paddings": said["config"]["pad_width"], "mode": "CONSTANT"}
    function = {"name": said["name"], "dtype": "float32", "function": "compat.v1.pad"}
    return {
        "class_name": "TFOpLambda",
        "name": said["name"],
        "config": function,
        "inbound_nodes": [[*tensor, padding | settings]],
    }


def _part(value: object, layer: str) -> object:
    """Returns a setting, which may be a regularizer or the like, as tf-keras writes it.

    Raises:
      ValueError: if it is not Keras's own.
    """
    if not isinstance(value, dict) or "class_name" not in value:
        return value
    if value["registered_name"] or not str(value["module"]).startswith("keras."):
        raise ValueError(
            f"layer {layer!r} uses {value['class_name']}, which can't be carried over to tf-keras"
        )
    return {"class_name": value["class_name"], "config": value["config"]}


def _node(call: Mapping[str, object]) -> list[list]:
    """Returns one call of a layer: [[layer, node, tensor, keyword arguments], ...]."""
    settings = {key: value for key, value in call["kwargs"].items() if value is not None}
    (inputs,) = call["args"]
    tensors = inputs if isinstance(inputs, list) else [inputs]
    return [[*tensor["config"]["keras_history"], settings] for tensor in tensors]


def _run(command: Sequence[str], errors: Path) -> None:
    """Runs TFMOT's process to its end. It never outlives this one.

    Raises:
      RuntimeError: if it fails.
    """
    with errors.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - no shell
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr
        )
        with process:
            try:
                code = process.wait()
            finally:
                process.kill()
                process.wait()
    if not code:
        return
    if code < 0:
        died = _process.signal_name(-code)
        raise RuntimeError(f"TFMOT's process was killed by {died}{_process.last_lines(errors)}")
    said = errors.read_text(encoding="utf-8", errors="replace").strip()
    failure = RuntimeError(f"TFMOT's process failed{_process.last_lines(errors, count=1)}")
    failure.add_note(said[said.rfind("Traceback (most recent call last)") :])
    raise failure
