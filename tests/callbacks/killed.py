"""Trains a small network that is killed again and again, and one that is not.

  python -m tests.callbacks.killed folder

Every attempt is a fork of this process, which has imported TensorFlow but not run anything of it.
"""

import functools
import os
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

import tfprune
from tfprune import masks
from tfprune.callbacks import checkpoint as checkpoints

L = keras.layers
EPOCHS = 5


class KillAt(keras.callbacks.Callback):
    """Kills this process before a step of the optimizer."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_in_writing(number, after):
    """Kills this process at the n-th file that is written, before or after it has its name."""
    calls = iter(range(number))
    write = checkpoints._whole

    def dying(path, writer):
        last = next(calls, None) == number - 1
        if last and not after:
            writer(path.with_name(f".partial-{path.name}"))
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, writer)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints._whole = dying


def train(folder, kill):
    """Trains, or goes on, in a folder; `kill` is ("step", 7) or ("write", 2, after), or None."""
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    checkpoint = tfprune.Checkpoint(folder / "checkpoints")
    splits = tfprune.data.load("digits", batch_size=256, augment="crop(pad=1)")
    train = splits.shuffled(0, first=checkpoint.epoch)
    model = keras.Sequential(
        [
            keras.Input(splits.input_shape),
            L.Conv2D(8, 3, strides=2),
            L.BatchNormalization(),
            L.ReLU(),
            L.Dropout(0.2, seed=1),
            L.Flatten(),
            L.Dense(10),
        ]
    )
    steps = EPOCHS * len(train)
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    pruner = tfprune.Pruner("sparsity:0.8", frequency=2, end=f"{EPOCHS - 1}ep")
    callbacks = [pruner, checkpoint]
    if kill and kill[0] == "step":
        callbacks.append(KillAt(kill[1]))
    elif kill:
        kill_in_writing(*kill[1:])
    model.fit(train, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)
    values = [w.numpy() for w in (*model.variables, *model.optimizer.variables)]
    np.savez(folder / "partial.npz", *values, *masks.of(model).values())
    (folder / "partial.npz").replace(folder / "end.npz")


def attempt(body):
    """Returns how a fork of this process ended."""
    child = os.fork()
    if not child:
        try:
            body()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main():
    """Writes `whole/end.npz` and `killed/end.npz`, and prints how often it was killed."""
    root = pathlib.Path(sys.argv[1])
    for name in ("whole", "killed"):
        (root / name).mkdir()
    assert attempt(functools.partial(train, root / "whole", None)) == 0
    per_epoch = 6
    points = [("step", s) for s in (0, 1, 3, 5)] + [("write", 1, False), ("write", 1, True)]
    for epoch in range(1, EPOCHS):
        points += [("step", epoch * per_epoch + s) for s in (0, 2, 5)]
        points += [("write", 2, False), ("damage", epoch)] if epoch < EPOCHS - 1 else []
    kills = 0
    for point in points:
        if point[0] == "damage":
            newest = max((root / "killed" / "checkpoints").glob("epoch-*.h5"))
            newest.write_bytes(newest.read_bytes()[: -1000 * point[1]])
            continue
        status = attempt(functools.partial(train, root / "killed", point))
        assert os.WIFSIGNALED(status), (point, status)
        kills += 1
    assert attempt(functools.partial(train, root / "killed", None)) == 0
    print(f"killed {kills} times")


if __name__ == "__main__":
    main()
