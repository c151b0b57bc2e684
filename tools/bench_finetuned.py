r"""Top-1 of a trained network without half of its MACs, say, criterion by criterion.

  python tools/bench_finetuned.py --model=resnet.h5 --data_dir=... --csv=found.csv \
      --criteria=l1,kmeans,fpgm+merge --targets=macs:0.75,macs:0.5 --seeds=0,1,2

Channels are removed, and what is left is fine-tuned, alike for all: from the same weights, with the
same images in the same order for a seed. Judged is the test split, at the end. Each finished row
goes to the file, and the same command goes on there.
"""

import csv
import itertools
import pathlib
import time

import numpy as np
from absl import app, flags

flags.DEFINE_string("model", None, "A trained model's file.", required=True)
flags.DEFINE_string("dataset", "cifar10", "As in pipelines.prune.")
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
flags.DEFINE_string("preprocess", "raw", "As in pipelines.prune.")
flags.DEFINE_string("augment", "flip_crop", "As in pipelines.prune.")
flags.DEFINE_list("criteria", ["l1"], "Which to compare; name+correction for one of those.")
flags.DEFINE_list("targets", ["macs:0.75", "macs:0.5"], "Operating points.")
flags.DEFINE_list("seeds", ["0"], "Of the order of examples, the calibration images, and scores.")
flags.DEFINE_string("allocation", "uniform", "How layers share it.")
flags.DEFINE_integer("calibration_samples", 512, "Training images.")
flags.DEFINE_integer("steps", 352, "Of fine-tuning.")
flags.DEFINE_integer("batch_size", 128, "Examples in one.")
flags.DEFINE_float("learning_rate", 1e-3, "Of Adam; it falls to 0 along a cosine.")
flags.DEFINE_string("csv", None, "Where rows are kept.", required=True)
FLAGS = flags.FLAGS

_COLUMNS = ("criterion", "target", "seed", "macs", "before", "top1", "seconds")


def _main(argv: list[str]) -> None:
    del argv
    import tfprune

    model = tfprune.load_model(FLAGS.model)
    path = pathlib.Path(FLAGS.csv)
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    known = {(row["criterion"], row["target"], row["seed"]) for row in rows}
    for seed in FLAGS.seeds:
        splits = tfprune.data.load(
            FLAGS.dataset,
            data_dir=FLAGS.data_dir,
            preprocess=FLAGS.preprocess,
            augment=FLAGS.augment,
            batch_size=FLAGS.batch_size,
            seed=int(seed),
        )
        for target, spec in itertools.product(FLAGS.targets, FLAGS.criteria):
            if (spec, target, seed) in known:
                continue
            row = {"criterion": spec, "target": target, "seed": seed}
            row |= _tuned(model, splits, spec, target, int(seed))
            rows.append(row)
            print(row, flush=True)
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, _COLUMNS)
                if not file.tell():
                    writer.writeheader()
                writer.writerow(row)
    _print(rows)


def _tuned(
    model: object, splits: object, spec: str, target: str, seed: int
) -> dict[str, float | int]:
    """Returns what a criterion takes, and leaves before and after the fine-tuning."""
    import keras

    import tfprune

    keras.utils.set_random_seed(seed)
    criterion, _, correction = spec.partition("+")
    data = splits.calibration(FLAGS.calibration_samples, seed)
    start = time.monotonic()
    pruned = tfprune.prune(
        model,
        target,
        criterion=criterion,
        granularity="channel",
        allocation=FLAGS.allocation,
        correction=correction or "own",
        data=data,
        seed=seed,
    )
    seconds = time.monotonic() - start
    small = tfprune.shrink(pruned)
    facts = tfprune.measure(small, data=splits.test)
    rate = keras.optimizers.schedules.CosineDecay(FLAGS.learning_rate, FLAGS.steps)
    small.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    small.fit(splits.train.repeat().take(FLAGS.steps), verbose=0)
    tfprune.reestimate_batchnorm(small, splits.train.take(16))
    return {
        "macs": facts["macs"],
        "before": round(facts["top1"], 4),
        "top1": round(tfprune.measure(small, data=splits.test)["top1"], 4),
        "seconds": round(seconds, 1),
    }


def _print(rows: list[dict[str, str]]) -> None:
    """Prints mean and standard deviation of each criterion at each target."""
    print("| criterion |", *(f"{t}, before | after |" for t in FLAGS.targets), "seconds |")
    print("|---" * (2 + 2 * len(FLAGS.targets)) + "|")
    for spec in FLAGS.criteria:
        own = [row for row in rows if row["criterion"] == spec]
        cells = []
        for target in FLAGS.targets:
            for key in ("before", "top1"):
                found = [100 * float(row[key]) for row in own if row["target"] == target]
                spread = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
                cells.append(f"{np.mean(found):.2f}{spread} |")
        print(f"| {spec} |", *cells, f"{np.median([float(r['seconds']) for r in own]):.1f} |")


if __name__ == "__main__":
    app.run(_main)
