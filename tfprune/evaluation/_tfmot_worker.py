"""TFMOT's side of `tfprune.evaluation.tfmot`: a process of its own, with tf-keras.

It is given a folder with `request.json` and `arrays.npz`, and leaves `weights.npz` there.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

# How far outputs of the two Keras may lie apart, as a share of the largest.
TOLERANCE = 1e-5
# How often a growing sparsity is raised.
_UPDATES = 100


def run(folder: Path) -> None:
    """Trains the model in `folder` and writes its weights there.

    Raises:
      ValueError: if model or batches are not those of the caller, or the loss is no longer finite.
    """
    # TFMOT first: it is what makes tf-keras the Keras of this process.
    import tensorflow_model_optimization as tfmot
    import tf_keras

    from tfprune import data

    request = json.loads((folder / "request.json").read_text())
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    dense = tf_keras.Model.from_config(request["model"])
    layers = [dense.get_layer(layer["name"]) for layer in request["model"]["layers"]]
    fill(layers, weights(arrays))
    train = data.load(**request["data"]).shuffled(request["seed"])
    check(dense, train, arrays)

    tf_keras.utils.set_random_seed(request["seed"])
    tfmot = tfmot.sparsity.keras
    schedule = _schedule(request, tfmot)

    def wrapped(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if layer.name not in request["pruned"]:
            return layer
        return tfmot.prune_low_magnitude(layer, pruning_schedule=schedule)

    model = tf_keras.models.clone_model(dense, clone_function=wrapped)
    steps = request["steps"]
    if steps:
        _fit(model, train, request, tfmot)
    else:
        for layer in model.layers:
            if hasattr(layer, "pruning_obj"):
                layer.pruning_step.assign(1)
                layer.pruning_obj.conditional_mask_update()
                layer.pruning_obj.weight_mask_op()
    # TFMOT multiplies by masks, which leaves half of the zeros negative: other bytes in a file.
    np.savez(folder / "weights.npz", *(w + 0 for layer in layers for w in layer.get_weights()))


def weights(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the arrays that `np.savez` was given without names, in their order."""
    return [arrays[f"arr_{i}"] for i in range(sum(name.startswith("arr_") for name in arrays))]


def fill(layers: Iterable[tf_keras.layers.Layer], values: Sequence[np.ndarray]) -> None:
    """Sets the weights of all layers, one after the other.

    Raises:
      ValueError: if there are too few or too many, or one has another shape.
    """
    start = 0
    for layer in layers:
        stop = start + len(layer.weights)
        layer.set_weights(values[start:stop])
        start = stop
    if start != len(values):
        raise ValueError(f"the model has {start} weights in tf-keras, and {len(values)} in Keras 3")


def check(model: tf_keras.Model, train: tf.data.Dataset, arrays: dict[str, np.ndarray]) -> None:
    """Checks that batches and model are the caller's: by the first batch, and what comes of it.

    Raises:
      ValueError: if not.
    """
    x, y = next(iter(train))
    if not (np.array_equal(x, arrays["x"]) and np.array_equal(y, arrays["y"])):
        raise ValueError(
            "the first batch is another than the caller's: the data loaded here are other data, or "
            "the caller has drawn from its data set before"
        )
    expected = arrays["outputs"]
    error = np.abs(model(x, training=False).numpy() - expected).max() / np.abs(expected).max()
    if not error <= TOLERANCE:
        raise ValueError(f"the model in tf-keras returns something else: {error:.2g} of it differs")


def _schedule(request: dict[str, object], tfmot: object) -> object:
    """Returns TFMOT's schedule. TFMOT counts from 1, the first step of training."""
    sparsity, half = request["sparsity"], request["steps"] // 2
    every = max(1, half // _UPDATES)
    turns = half // every
    if request["schedule"] == "constant" or not turns:
        return tfmot.ConstantSparsity(sparsity, begin_step=1, end_step=1, frequency=1)
    return tfmot.PolynomialDecay(
        0.0, sparsity, begin_step=1, end_step=1 + turns * every, frequency=every
    )


def _fit(
    model: tf_keras.Model, train: tf.data.Dataset, request: dict[str, object], tfmot: object
) -> None:
    """Trains as `tfprune.evaluation.tuning.tune` does."""
    import tf_keras

    steps = request["steps"]
    rate = tf_keras.optimizers.schedules.CosineDecay(request["learning_rate"], steps)
    optimizer = {
        "adam": tf_keras.optimizers.Adam,
        "sgd": lambda rate: tf_keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    }[request["optimizer"]]
    loss = getattr(tf_keras.losses, request["loss"]["name"])(**request["loss"]["config"])
    model.compile(optimizer(rate), loss)
    fitted = model.fit(
        train.repeat().take(steps),
        shuffle=False,
        verbose=0,
        callbacks=[tfmot.UpdatePruningStep(), tf_keras.callbacks.TerminateOnNaN()],
    )
    if not math.isfinite(last := fitted.history["loss"][-1]):
        raise ValueError(
            f"the loss is {last}: lower the learning rate, or check how inputs are preprocessed"
        )


def end_with_caller() -> None:
    """Ends this process as soon as standard input is closed, which a caller that dies does too."""

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Runs in the folder named on the command line."""
    end_with_caller()
    folder = Path(sys.argv[1])
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    run(folder)


if __name__ == "__main__":
    main()
