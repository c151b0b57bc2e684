r"""Top-1 of networks that were pruned while they trained, method by method, under one budget.

  python tools/bench_training.py --network=resnet8 --model=pretrainedResnet.h5 --data_dir=... \
      --csv=found.csv --methods='gradual;rigl' --sparsities=0.8,0.9,0.95 --seeds=0,1,2
  python tools/bench_training.py --csv=found.csv --table

resnet8 is MLPerf Tiny's trained ResNet-8 on CIFAR-10, lenet5 a LeNet-5 that is first trained on
Fashion-MNIST. All methods get the same: --epochs of batches of 128 in the same order for a seed,
images mirrored and shifted, SGD with Nesterov momentum 0.9 and a learning rate that falls from
--rate along a cosine, masks updated every 10 steps up to half of the training. A method is words of
`tfprune.Pruner` after its name, such as "gradual allocation=uniform" or "rigl schedule=polynomial";
a last word "+kd" distils from the dense network, "+kd0.9" with that weight; "dense" prunes nothing,
"tfmot" is TFMOT's own pruning in a process of its own, "soft" is `tfprune.SoftPruner` on single
weights. Judged is the test split at the end (--split=validation to choose by). Each finished row
goes to the file, and the same command goes on there; several may run at once, each with its own
file.
"""

import csv
import glob
import itertools
import pathlib
import time

import numpy as np
from absl import app, flags

flags.DEFINE_enum("network", "resnet8", ["resnet8", "lenet5"], "Which network and data.")
flags.DEFINE_string("model", None, "The trained ResNet-8's file.")
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
flags.DEFINE_string("methods", "gradual", "What to compare, apart by semicolons.")
flags.DEFINE_list("sparsities", ["0.8", "0.9", "0.95"], "Operating points.")
flags.DEFINE_list("seeds", ["0"], "Of the order of examples, and what is random.")
flags.DEFINE_integer("epochs", 4, "Of training.")
flags.DEFINE_float("rate", 0.01, "Learning rate at the start.")
flags.DEFINE_enum("split", "test", ["test", "validation"], "What top-1 is of.")
flags.DEFINE_string("csv", None, "Where rows are kept; a pattern for --table.", required=True)
flags.DEFINE_boolean("table", False, "Only prints what is there.")
FLAGS = flags.FLAGS

_COLUMNS = ("network", "method", "sparsity", "seed", "split", "reached", "top1", "seconds")
_BATCH = 128


def _main(argv: list[str]) -> None:
    del argv
    if FLAGS.table:
        rows = [r for path in sorted(glob.glob(FLAGS.csv)) for r in _rows(pathlib.Path(path))]
        _print(rows)
        return
    path = pathlib.Path(FLAGS.csv)
    known = {tuple(row[x] for x in _COLUMNS[:5]) for row in _rows(path)}
    methods = [text.strip() for text in FLAGS.methods.split(";")]
    for seed, method, sparsity in itertools.product(FLAGS.seeds, methods, FLAGS.sparsities):
        key = (FLAGS.network, method, sparsity, seed, FLAGS.split)
        if key in known:
            continue
        start = time.monotonic()
        found = _trained(method, float(sparsity), int(seed))
        row = dict(zip(_COLUMNS, key, strict=False)) | found
        row["seconds"] = round(time.monotonic() - start, 1)
        print(row, flush=True)
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open())) if path.exists() else []


def _data(seed: int) -> dict[str, object]:
    resnet = FLAGS.network == "resnet8"
    return {
        "name": "cifar10" if resnet else "fashion_mnist",
        "data_dir": FLAGS.data_dir,
        "preprocess": "raw" if resnet else "unit",
        "augment": "flip_crop" if resnet else "flip",
        "batch_size": _BATCH,
        "validation": 0 if FLAGS.split == "test" else 0.1,
        "seed": seed,
    }


def _start(seed: int) -> tuple[object, object]:
    """Returns the trained network, and its data."""
    import keras

    import tfprune
    from tfprune.evaluation import tuning

    splits = tfprune.data.load(**_data(seed))
    if FLAGS.network == "resnet8":
        return tfprune.load_model(FLAGS.model), splits
    path = pathlib.Path(FLAGS.csv).with_name(f"lenet5_{FLAGS.split}.keras")
    if not path.exists():
        keras.utils.set_random_seed(0)
        model = tfprune.zoo.build("lenet5", input_shape=splits.input_shape, classes=10, seed=0)
        tuning.tune(model, splits.train, steps=12 * len(splits.train), learning_rate=2e-3)
        model.save(path)
    return tfprune.load_model(path), splits


def _trained(method: str, sparsity: float, seed: int) -> dict[str, float]:
    """Returns the top-1 and the sparsity that a method reaches."""
    import keras

    import tfprune
    from tfprune.evaluation import tfmot, tuning

    keras.utils.set_random_seed(seed)
    model, splits = _start(seed)
    steps = FLAGS.epochs * len(splits.train)
    if method == "tfmot":
        model = tfmot.tuned(
            model,
            f"sparsity:{sparsity}",
            protect=(),
            train=splits.shuffled(seed),
            data=_data(seed),
            seed=seed,
            steps=steps,
            learning_rate=FLAGS.rate,
            optimizer="sgd",
            schedule="polynomial",
        )
        return _facts(model, splits)
    words, distils, share = method.partition("+kd")
    name, *options = words.split()
    settings = dict(option.split("=", 1) for option in options)
    target, callbacks = f"sparsity:{sparsity}", []
    if distils:
        callbacks.append(tfprune.Distillation(weight=float(share or 0.5)))
    if name == "soft":
        callbacks.append(
            tfprune.SoftPruner(
                target, criterion="magnitude", granularity="weight", allocation="global"
            )
        )
    elif name != "dense":
        rewinds = name.startswith("rewind")
        settings = {"end": None if rewinds else f"{FLAGS.epochs / 2:g}ep"} | settings
        if "data" in settings:
            settings["data"] = splits.calibration(int(settings["data"]), seed)
        pruner = tfprune.Pruner(target, method=name, frequency=10, seed=seed, **settings)
        steps = pruner.cycle(FLAGS.epochs, len(splits.train))
        callbacks.append(pruner)
    tuning.compile_for(
        model, splits.train_plain, steps=steps, learning_rate=FLAGS.rate, optimizer="sgd"
    )
    model.fit(splits.train, epochs=FLAGS.epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return _facts(model, splits)


def _facts(model: object, splits: object) -> dict[str, float]:
    import tfprune

    facts = tfprune.measure(model, data=getattr(splits, FLAGS.split))
    return {"reached": round(facts["sparsity"], 4), "top1": round(facts["top1"], 4)}


def _print(rows: list[dict[str, str]]) -> None:
    """Prints mean and standard deviation of each method at each sparsity."""
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        points = sorted({row["sparsity"] for row in own})
        print(f"\n| {network} |", *(f"{100 * float(x):g} % |" for x in points))
        print("|---" * (1 + len(points)) + "|")
        for method in dict.fromkeys(row["method"] for row in own):
            cells = []
            for point in points:
                found = [
                    100 * float(row["top1"])
                    for row in own
                    if (row["method"], row["sparsity"]) == (method, point)
                ]
                spread = f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
                cells.append(f"{np.mean(found):.1f}{spread} ({len(found)}) |" if found else "|")
            print(f"| {method} |", *cells)


if __name__ == "__main__":
    app.run(_main)
