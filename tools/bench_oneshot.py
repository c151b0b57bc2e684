r"""Top-1 of a trained network after pruning at once, without fine-tuning, criterion by criterion.

  python tools/bench_oneshot.py --model=resnet.h5 --data_dir=... --targets=sparsity:0.5,sparsity:0.8

All score on the same calibration images of the training split, drawn anew for each seed; batch-norm
statistics are estimated again on them after pruning, for all. Judged is the test split.
"""

import itertools
import time

import numpy as np
from absl import app, flags

flags.DEFINE_string("model", None, "A trained model's file.", required=True)
flags.DEFINE_string("dataset", "cifar10", "As in pipelines.prune.")
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
flags.DEFINE_string("preprocess", "raw", "As in pipelines.prune.")
flags.DEFINE_list("criteria", ["magnitude"], "Which to compare; name+correction for one of those.")
flags.DEFINE_list("targets", ["sparsity:0.5", "sparsity:0.8"], "Operating points.")
flags.DEFINE_multi_string("allocation", ["uniform"], "How layers share it.")
flags.DEFINE_string("granularity", "weight", "What is pruned together.")
flags.DEFINE_integer("calibration_samples", 1024, "Training images.")
flags.DEFINE_integer("eval_samples", None, "Test images; all by default.")
flags.DEFINE_list("seeds", ["0"], "Of the calibration images and random scores.")
FLAGS = flags.FLAGS


def _main(argv: list[str]) -> None:
    del argv
    import tfprune

    model = tfprune.load_model(FLAGS.model)
    splits = tfprune.data.load(
        FLAGS.dataset, data_dir=FLAGS.data_dir, preprocess=FLAGS.preprocess, batch_size=256
    )
    test = splits.test
    if FLAGS.eval_samples:
        test = test.unbatch().take(FLAGS.eval_samples).batch(256)
    test = test.cache()
    dense = tfprune.measure(model, data=test)["top1"]
    print(f"dense: {100 * dense:.2f} %")
    print("| criterion | allocation |", *(f"{t} |" for t in FLAGS.targets), "seconds |")
    print("|---" * (3 + len(FLAGS.targets)) + "|")
    size = FLAGS.calibration_samples
    samples = [splits.calibration(size, int(seed)).cache() for seed in FLAGS.seeds]
    for spec, allocation in itertools.product(FLAGS.criteria, FLAGS.allocation):
        criterion, _, correction = spec.partition("+")
        cells, start = [], time.monotonic()
        for target in FLAGS.targets:
            found = []
            for seed, data in zip(FLAGS.seeds, samples, strict=True):
                pruned = tfprune.prune(
                    model,
                    target,
                    criterion=criterion,
                    granularity=FLAGS.granularity,
                    allocation=allocation,
                    correction=correction or "own",
                    data=data,
                    seed=int(seed),
                )
                found.append(100 * tfprune.measure(pruned, data=test)["top1"])
            spread = f" ± {np.std(found, ddof=1):.2f}" if len(found) > 1 else ""
            cells.append(f"{np.mean(found):.2f}{spread} |")
        seconds = (time.monotonic() - start) / len(FLAGS.targets) / len(FLAGS.seeds)
        print(f"| {spec} | {allocation} |", *cells, f"{seconds:.0f} |", flush=True)


if __name__ == "__main__":
    app.run(_main)
