"""Measured against theoretical speedup of networks whose channels were removed.

  python tools/bench_channels.py

Every file of a network takes turns with the dense one in one process, so that a noisy machine slows
all of them; the speedup is the median ratio within a turn. The weights are random: latency does not
depend on them.
"""

import pathlib
import tempfile

import numpy as np
from absl import app, flags

flags.DEFINE_list("networks", ["MobileNetV2", "resnet20", "ResNet50"], "Which to measure.")
flags.DEFINE_list("shares", ["0.75", "0.5", "0.25"], "Of the MACs that are left.")
flags.DEFINE_list("round_to", ["1", "8"], "Channels are kept in multiples of these.")
flags.DEFINE_string("allocation", "uniform", "How layers share it.")
flags.DEFINE_string("variant", "float32", "The TFLite file.")
flags.DEFINE_integer("threads", 1, "Of the interpreter.")
flags.DEFINE_integer("runs", 300, "Timed inferences of each file, at least.")
FLAGS = flags.FLAGS

_SIZE = {"resnet20": 32}  # of the input; 96 for all others


def measure(name: str) -> None:
    """Prints one row for each share and multiple of channels."""
    import tfprune
    from tfprune.measurement import runtime
    from tfprune.tflite import convert, samples
    from tfprune.tflite.variants import VARIANTS

    size = _SIZE.get(name, 96)
    dense = tfprune.zoo.resolve(name, (size, size, 3), 10)
    found = samples.random_inputs(dense)
    macs, models = tfprune.measure(dense)["macs"], {("dense", "1"): dense}
    for share in FLAGS.shares:
        for multiple in FLAGS.round_to:
            pruned = tfprune.prune(
                dense,
                f"macs:{share}",
                criterion="random",
                granularity="channel",
                allocation=FLAGS.allocation,
                round_to=int(multiple),
            )
            models[share, multiple] = tfprune.shrink(pruned)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for model in models.values():
            files.append(pathlib.Path(folder, f"{len(files)}.tflite"))
            traced = convert.trace(model, found.inputs)
            data = convert.convert(traced, VARIANTS[FLAGS.variant], [found.inputs])
            files[-1].write_bytes(data)
        turns = runtime.compare(
            files, [found.inputs], threads=FLAGS.threads, runs=FLAGS.runs, max_seconds=120
        )
    for (share, multiple), model, times in zip(models, models.values(), turns.T, strict=True):
        theory = macs / tfprune.measure(model)["macs"]
        speedup = np.quantile(turns[:, 0] / times, [0.25, 0.5, 0.75])
        print(
            f"| {name}-{size} | {share} | {multiple} | {np.median(times):.3f} | {theory:.2f} "
            f"| {speedup[1]:.2f} ({speedup[0]:.2f} to {speedup[2]:.2f}) "
            f"| {speedup[1] / theory:.2f} |",
            flush=True,
        )


def _main(argv: list[str]) -> None:
    del argv
    print("| network | MACs | round_to | ms | theoretical | measured (quartiles) | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in FLAGS.networks:
        measure(name)


if __name__ == "__main__":
    app.run(_main)
