"""Times a training step dense, with tfprune's masks, and with TFMOT's wrappers, on ResNet-20.

  python tools/bench_overhead.py

Two models are fitted at the same time in two threads and take turns, a step each, so that a noisy
machine slows both. Keras 3 runs in one process, tf-keras with TFMOT in another, and each is
compared with the dense model of its own Keras. "step" is the median over pairs of neighbouring
steps, "total" the whole time, updates of the masks included.
"""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
from absl import app, flags

flags.DEFINE_integer("steps", 120, "Training steps of each model.")
flags.DEFINE_integer("batch", 128, "Examples in a batch.")
flags.DEFINE_integer("frequency", 100, "Steps between two updates of the masks, in both.")
flags.DEFINE_enum("side", "both", ["both", "tfprune", "tfmot"], "What to time.")
FLAGS = flags.FLAGS

_WARM_UP = 5  # steps that are not counted


def taking_turns(callback: type) -> tuple[list, list]:
    """Returns first and last callbacks of two fits that take turns and note their times."""
    gates = [threading.Semaphore(1), threading.Semaphore(0)]
    first, last = [], []
    for me in range(2):

        class First(callback):
            def __init__(self, me: int = me) -> None:
                super().__init__()
                self.me, self.times = me, []

            def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
                gates[self.me].acquire()
                self.start = time.perf_counter()

        class Last(callback):
            def __init__(self, begun: First) -> None:
                super().__init__()
                self.begun = begun

            def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
                float(logs["loss"])  # waits for the step
                self.begun.times.append(time.perf_counter() - self.begun.start)
                gates[1 - self.begun.me].release()

        first.append(First())
        last.append(Last(first[-1]))
    return first, last


def compare(callback: type, models: list, callbacks: list) -> dict[str, float]:
    """Returns the ratios of the second model's steps to the first one's."""
    first, last = taking_turns(callback)
    rng = np.random.default_rng(0)
    x = rng.random((FLAGS.batch * FLAGS.steps, 32, 32, 3), np.float32)
    y = rng.integers(0, 10, len(x))
    threads = [
        threading.Thread(
            target=models[i].fit,
            args=(x, y),
            kwargs={
                "batch_size": FLAGS.batch,
                "verbose": 0,
                "callbacks": [first[i], *callbacks[i], last[i]],
            },
        )
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dense, pruned = (np.array(f.times[_WARM_UP:]) for f in first)
    low, middle, high = np.quantile(pruned / dense, (0.25, 0.5, 0.75))
    return {
        "dense_ms": 1000 * float(np.median(dense)),
        "step": float(middle),
        "step_q25": float(low),
        "step_q75": float(high),
        "total": float(pruned.sum() / dense.sum()),
    }


def tfprune_side() -> dict[str, float]:
    """Returns the ratios of Keras 3 with tfprune."""
    import keras

    import tfprune

    models = [tfprune.zoo.build("resnet20", seed=0) for _ in range(2)]
    for model in models:
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    pruner = tfprune.Pruner(
        "sparsity:0.8",
        allocation="uniform",
        schedule="constant",
        end=FLAGS.steps,
        frequency=FLAGS.frequency,
    )
    return compare(keras.callbacks.Callback, models, [[], [pruner]])


def tfmot_side() -> dict[str, float]:
    """Returns the ratios of tf-keras with TFMOT, the same network layer by layer."""
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras

    layers, sparsity = tf_keras.layers, tfmot.sparsity.keras

    def convolution(x: object, width: int, stride: int = 1) -> object:
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    def resnet20() -> tf_keras.Model:
        image = tf_keras.Input((32, 32, 3))
        x = layers.ReLU()(convolution(image, 16))
        for width in (16, 32, 64):
            for i in range(3):
                stride = 2 if i == 0 and width > 16 else 1
                y = layers.ReLU()(convolution(x, width, stride))
                y = convolution(y, width)
                if stride == 2:
                    half = layers.MaxPooling2D(1, 2)(x)
                    pad = [[0, 0]] * 3 + [[0, width // 2]]
                    x = layers.Lambda(lambda t, pad=pad: tf.pad(t, pad))(half)
                x = layers.ReLU()(layers.Add()([x, y]))
        x = layers.GlobalAveragePooling2D()(x)
        return tf_keras.Model(image, layers.Dense(10, activation="softmax")(x))

    schedule = sparsity.ConstantSparsity(0.8, 0, FLAGS.steps, FLAGS.frequency)
    models = [resnet20(), sparsity.prune_low_magnitude(resnet20(), pruning_schedule=schedule)]
    for model in models:
        optimizer = tf_keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
    return compare(tf_keras.callbacks.Callback, models, [[], [sparsity.UpdatePruningStep()]])


def main(argv: list[str]) -> None:
    """Prints a line a side."""
    if FLAGS.side != "both":
        print(json.dumps({"tfprune": tfprune_side, "tfmot": tfmot_side}[FLAGS.side]()))
        return
    print("side      dense ms   step ratio (quartiles)    total ratio")
    for side in ("tfprune", "tfmot"):
        done = subprocess.run(
            [sys.executable, argv[0], *sys.argv[1:], f"--side={side}"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        row = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{side:8}  {row['dense_ms']:8.1f}   {row['step']:.3f} "
            f"({row['step_q25']:.3f} to {row['step_q75']:.3f})    {row['total']:.3f}"
        )


if __name__ == "__main__":
    app.run(main)
