"""Times a training step dense, with each method of tfprune, and with TFMOT, on ResNet-20.

  python tools/bench_overhead.py
  python tools/bench_overhead.py --methods=masks,gradual,rigl

Two models are fitted at the same time in two threads and take turns, a step each, so that a noisy
machine slows both. Each row is a process of its own, and compared with the dense model of its own
Keras: tfmot has tf-keras. "step" is the median over pairs of neighbouring steps; "total" the whole
time, updates of the masks included, but for the first steps, in which functions are traced;
"TFMOT" what "step" is to that of TFMOT. "MB" is the most memory that a process with one model ever
had, in six steps with three updates, and "dense MB" that of a dense one. What happens once in a
training is not in it: where a method's work ends, the step is traced again.

"masks" is pruned at once, and then trained with its masks alone. "distillation" prunes nothing.
"""

import functools
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

flags.DEFINE_list("methods", [], "Rows; if empty tfmot, masks, distillation and every method.")
flags.DEFINE_integer("steps", 205, "Training steps of each model, 5 of which are not counted.")
flags.DEFINE_integer("batch", 128, "Examples in a batch.")
flags.DEFINE_integer("frequency", 100, "Steps between two updates of the masks, in all.")
flags.DEFINE_string("child", "", "The row to time in this process.")
flags.DEFINE_enum("alone", "", ["", "dense", "pruned"], "Which model to fit alone, for its memory.")
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


# Whether it is to be pruned -> a model, and the callbacks that prune it.
Make = Callable[[bool], tuple[object, list]]


def batches() -> object:
    """Returns random images, the same few batches again and again."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = rng.random((8 * FLAGS.batch, 32, 32, 3), np.float32)
    y = rng.integers(0, 10, len(x))
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(FLAGS.batch).cache()
    return data.repeat().take(FLAGS.steps)


def compare(callback: type, make: Make) -> dict[str, float]:
    """Returns the ratios of the pruned model's steps to the dense one's."""
    first, last = taking_turns(callback)
    made = [make(False), make(True)]
    threads = [
        threading.Thread(
            target=model.fit,
            args=(batches(),),
            kwargs={"verbose": 0, "callbacks": [first[i], *callbacks, last[i]]},
        )
        for i, (model, callbacks) in enumerate(made)
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


def peak(make: Make, pruned: bool) -> float:
    """Returns the most memory that this process ever had, in MB, after one model was fitted."""
    model, callbacks = make(pruned)
    model.fit(batches(), verbose=0, callbacks=callbacks)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def with_tfprune(method: str) -> tuple[type, Make]:
    """Returns Keras 3 with a method of tfprune."""
    import keras

    import tfprune
    from tfprune import schedules

    def make(pruned: bool) -> tuple[object, list]:
        model = tfprune.zoo.build("resnet20", seed=0)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        # The dense model's process loads the same code: what that takes is no part of training.
        schedules.tfmot_schedules()
        tfprune.Pruner("sparsity:0.8").plan(model)
        if not pruned:
            return model, []
        if method == "distillation":
            return model, [tfprune.Distillation()]
        if method == "masks":
            return model, [tfprune.Pruner("sparsity:0.8", schedule="one_shot")]
        when = {"begin": 0, "end": FLAGS.steps, "frequency": FLAGS.frequency}
        return model, [tfprune.Pruner("sparsity:0.8", method=method, **when)]

    return keras.callbacks.Callback, make


def with_tfmot() -> tuple[type, Make]:
    """Returns tf-keras with TFMOT, the same network layer by layer."""
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

    def make(pruned: bool) -> tuple[object, list]:
        model, callbacks = resnet20(), []
        if pruned:
            schedule = sparsity.ConstantSparsity(0.8, 0, FLAGS.steps, FLAGS.frequency)
            model = sparsity.prune_low_magnitude(model, pruning_schedule=schedule)
            callbacks = [sparsity.UpdatePruningStep()]
        optimizer = tf_keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        return model, callbacks

    return tf_keras.callbacks.Callback, make


def child(method: str, **flags_of_child: object) -> object:
    """Returns what a process of its own finds out."""
    words = {"child": method, "steps": FLAGS.steps, "batch": FLAGS.batch} | flags_of_child
    done = subprocess.run(
        [sys.executable, __file__, *(f"--{name}={value}" for name, value in words.items())],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def row(method: str) -> dict[str, float]:
    """Returns what is known of a method."""
    timed = child(method, frequency=FLAGS.frequency)
    own = "tfmot" if method == "tfmot" else "masks"
    return timed | {"dense_mb": alone(own, "dense"), "pruned_mb": alone(method, "pruned")}


@functools.cache
def alone(method: str, which: str) -> float:
    """Returns the most memory that a process needs, in MB."""
    return child(method, alone=which, steps=6, frequency=2)


def main(argv: list[str]) -> None:
    """Prints a line a method."""
    del argv
    if FLAGS.child:
        callback, make = with_tfmot() if FLAGS.child == "tfmot" else with_tfprune(FLAGS.child)
        pruned = FLAGS.alone == "pruned"
        print(json.dumps(peak(make, pruned) if FLAGS.alone else compare(callback, make)))
        return
    methods = FLAGS.methods
    if not methods:
        from tfprune import sparse_training

        methods = ["tfmot", "masks", *sparse_training.names(), "distillation"]
    print("| method | dense ms | step (quartiles) | TFMOT | total | MB | dense MB |")
    print("|---|---|---|---|---|---|---|")
    tfmot = None
    for method in methods:
        found = row(method)
        tfmot = found["step"] if method == "tfmot" else tfmot
        beside = f"{found['step'] / tfmot:.3f}" if tfmot else ""
        print(
            f"| {method} | {found['dense_ms']:.1f} | {found['step']:.3f} "
            f"({found['step_q25']:.3f} to {found['step_q75']:.3f}) | {beside} "
            f"| {found['total']:.3f} | {found['pruned_mb']:.0f} | {found['dense_mb']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
