"""Training in a run's directory: reproducible, logged, and resumed after a stop."""

import csv
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags

from tfprune import data, zoo
from tfprune.tflite import convert

from . import run as runs

if TYPE_CHECKING:
    import keras

FLAGS = flags.FLAGS


def load_data() -> data.Splits:
    """Returns the data set that the flags name."""
    return data.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        preprocess=FLAGS.preprocess,
        batch_size=FLAGS.batch_size,
        augment=FLAGS.augment,
        image_size=FLAGS.image_size,
        seed=FLAGS.seed,
    )


def reproducible() -> None:
    """Makes what follows the same, bit for bit, at every run with the same seed."""
    with convert.quiet([]):  # it looks for accelerators as it starts, and says so at length
        import tensorflow as tf

        tf.config.list_logical_devices()
    import keras

    keras.utils.set_random_seed(FLAGS.seed)
    tf.config.experimental.enable_op_determinism()


def baseline(run: runs.Run, splits: data.Splits) -> "keras.Model":
    """Returns the dense model: from an earlier start of this run, a file, or trained now."""
    path = run.path("baseline.keras")
    if path.exists():
        print(f"dense model: taken from {path}")
        return zoo.load_model(path)
    model = zoo.resolve(FLAGS.model, splits.input_shape, splits.classes, seed=FLAGS.seed)
    epochs = FLAGS.train_epochs
    if epochs is None:
        epochs = 0 if FLAGS.model.lower().endswith(zoo.FILE_ENDINGS) else 30
    fit(run, model, splits, name="train", epochs=epochs, learning_rate=FLAGS.train_learning_rate)
    run.write("baseline.keras", model.save)
    return model


def fit(
    run: runs.Run,
    model: "keras.Model",
    splits: data.Splits,
    *,
    name: str,
    epochs: int,
    learning_rate: float,
    cycle: int | None = None,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
) -> None:
    """Fits `model`, or goes on where an earlier start was stopped, one epoch back at most.

    Logs go to `logs/<name>` and `<name>.csv`. The learning rate falls to 0 in `cycle` steps, all if
    None.

    Raises:
      ValueError: if the loss is no longer finite.
    """
    import keras

    import tfprune
    from tfprune.evaluation import tuning

    reproducible()
    loss = tuning.compile_for(
        model,
        splits.train_plain,
        steps=cycle or epochs * len(splits.train),
        learning_rate=learning_rate,
    )
    if not epochs:
        return
    checkpoint = tfprune.Checkpoint(run.path(f"logs/{name}.checkpoints"))
    done, table = checkpoint.epoch, run.path(f"logs/{name}.csv")
    _cut(run, table, done)
    print(
        f"{name}: {epochs} epochs of {len(splits.train)} steps, loss {loss.name}"
        + (f"; goes on after epoch {done}" if done else "")
    )
    model.fit(
        splits.shuffled(FLAGS.seed, first=done),
        validation_data=splits.validation,
        epochs=epochs,
        shuffle=False,  # the data set does
        verbose="auto" if sys.stdout.isatty() else 2,
        callbacks=[
            *callbacks,
            keras.callbacks.CSVLogger(table, append=True),
            keras.callbacks.TensorBoard(run.path(f"logs/{name}"), write_graph=False),
            checkpoint,
        ],
    )
    if checkpoint.failure:
        raise ValueError(f"{name}: {checkpoint.failure}; or check --preprocess")
    # The file need not carry the optimizer's state: it would be three times the size.
    tuning.compile_for(model, splits.train_plain, steps=None)


def _cut(run: runs.Run, table: pathlib.Path, epochs: int) -> None:
    """Leaves the rows of the epochs that are done: a stop may come between row and checkpoint."""
    table.parent.mkdir(parents=True, exist_ok=True)
    if not epochs:
        table.unlink(missing_ok=True)
        return
    lines = table.read_text().splitlines(keepends=True)[: 1 + epochs]
    run.write(f"logs/{table.name}", lambda path: path.write_text("".join(lines)))


def about(splits: data.Splits) -> dict[str, object]:
    """Returns the part of the record that says what the model is judged on."""
    return {
        # Of a file the name is enough; where it was is in the settings.
        "model": model_name(),
        "dataset": pathlib.PurePath(splits.name).name,
        "classes": splits.classes,
        "class_names": list(splits.class_names),
        "input_shape": list(splits.input_shape),
        "preprocess": dataclasses.asdict(splits.preprocess),
        **{f"{split}_examples": size for split, size in splits.sizes.items()},
    }


def model_name() -> str:
    """Returns what people call the model: of a file, its name."""
    return pathlib.PurePath(FLAGS.model).name


def history(run: runs.Run, name: str, steps: int = 1) -> list[dict[str, float]]:
    """Returns one row an epoch of a training of this run, none if it had no epochs.

    A training in several steps has a table each, `<name>1.csv` and so on; epochs are counted on.
    """
    rows: list[dict[str, float]] = []
    for number in range(1, steps + 1):
        path = run.path(f"logs/{name}{number if steps > 1 else ''}.csv")
        if not path.exists():
            continue
        with path.open(newline="") as lines:
            rows += [
                {key: float(value) for key, value in row.items()} | {"epoch": len(rows) + i}
                for i, row in enumerate(csv.DictReader(lines))
            ]
    return rows
