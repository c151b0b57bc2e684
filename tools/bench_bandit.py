r"""The bandit against the oracle that it estimates: time, and rank correlation of their scores.

  python tools/bench_bandit.py --model=resnet.h5 --data_dir=... --granularities=filter,channel

Seconds are of the wall clock, for the scores of all units on the same calibration images, compiling
included; both run in one process, the oracle first. The ratio of processor seconds is there as
well, which other work on the machine hardly changes. Spearman's correlation is of the units of one
layer (or group of channels), averaged over layers, and of all units of the network together.
"""

import time

import numpy as np
from absl import app, flags

flags.DEFINE_string("model", None, "A trained model's file, or a name.", required=True)
flags.DEFINE_string("dataset", "cifar10", "As in pipelines.prune.")
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
flags.DEFINE_string("preprocess", "raw", "As in pipelines.prune.")
flags.DEFINE_integer("calibration_samples", 1024, "Training images.")
flags.DEFINE_list("granularities", ["filter", "channel"], "What is masked together.")
flags.DEFINE_list("policies", ["ucb1", "epsilon_greedy", "softmax", "thompson"], "Which to run.")
flags.DEFINE_list("pulls", ["2"], "Of each arm on average.")
flags.DEFINE_integer("batch", 16, "Images in a pull.")
flags.DEFINE_list("seeds", ["0"], "Of the bandit's draws.")
FLAGS = flags.FLAGS


def _main(argv: list[str]) -> None:
    del argv
    import tfprune
    from tfprune.planning import Recipe

    splits = tfprune.data.load(
        FLAGS.dataset, data_dir=FLAGS.data_dir, preprocess=FLAGS.preprocess, batch_size=64
    )
    data = splits.calibration(FLAGS.calibration_samples, 0).cache()
    x, _ = next(iter(data))
    model = tfprune.zoo.resolve(FLAGS.model, x.shape[1:])
    model(x, training=False)  # the first call of all takes longer

    def scores(
        criterion: str, granularity: str, seed: int = 0
    ) -> tuple[list[np.ndarray], np.ndarray]:
        recipe = Recipe.of(None, criterion=criterion, granularity=granularity, seed=seed)
        plan = recipe.bind(model, data=data)
        start = np.array([time.perf_counter(), time.process_time()])
        layers = plan.scores().layers
        seconds = np.array([time.perf_counter(), time.process_time()]) - start
        return [layer.scores for layer in layers], seconds

    print("| network | granularity | policy | pulls | oracle s | bandit s | ratio ", end="")
    print("| of processor s | correlation in a layer | of all |")
    print("|---" * 10 + "|")
    for granularity in FLAGS.granularities:
        truth, slow = scores("oracle", granularity)
        for policy in FLAGS.policies:
            for pulls in FLAGS.pulls:
                spec = f"bandit({policy!r}, pulls={pulls}, batch={FLAGS.batch})"
                found = [scores(spec, granularity, int(seed)) for seed in FLAGS.seeds]
                fast = np.mean([seconds for _, seconds in found], axis=0)
                inside, overall = np.mean([_agreement(truth, s) for s, _ in found], axis=0)
                print(
                    f"| {model.name} | {granularity} | {policy} | {pulls} x {FLAGS.batch} "
                    f"| {slow[0]:.1f} | {fast[0]:.1f} | {slow[0] / fast[0]:.1f} "
                    f"| {slow[1] / fast[1]:.1f} | {inside:.2f} | {overall:.2f} |",
                    flush=True,
                )


def _agreement(truth: list[np.ndarray], found: list[np.ndarray]) -> tuple[float, float]:
    """Returns Spearman's correlation, the mean over layers and that of all units."""
    from scipy.stats import spearmanr

    pairs = zip(truth, found, strict=True)
    layers = [spearmanr(a, b)[0] for a, b in pairs if np.ptp(a) and np.ptp(b)]
    return np.mean(layers), spearmanr(np.concatenate(truth), np.concatenate(found))[0]


if __name__ == "__main__":
    app.run(_main)
