r"""What it takes to score one layer of 512 filters of 3x3x512 by each clustering criterion.

  taskset -c 0,1 python tools/bench_clustering.py

The filters are random, in loose groups of four; a layer of as many filters reads their channels,
since `cup` looks at what goes out as well. Criteria that look at activations get those of the layer
for random images: their time is that of the statistics too, but not that of a correction. `l2` is
there to compare.
"""

import os
import time

import numpy as np
from absl import app, flags

flags.DEFINE_list("criteria", [], "Which, without options; all that cluster if empty.")
flags.DEFINE_integer("filters", 512, "Filters in the layer, and channels that they read.")
flags.DEFINE_integer("samples", 64, "Images, for criteria that look at activations.")
flags.DEFINE_integer("size", 8, "Height and width of these.")
flags.DEFINE_integer("runs", 3, "Repetitions; the table has their median and the longest.")
FLAGS = flags.FLAGS

# What else a criterion can do.
_VARIANTS = {
    "fpgm": ["fpgm('l1')", "fpgm('cosine')"],
    "kmeans": ["kmeans(clusters=0.5)", "kmeans('silhouette')"],
    "spectral": ["spectral(clusters=0.5)", "spectral('silhouette')"],
    "coreset": ["coreset('sensitivity')"],
    "mutual": ["mutual('cka')"],
}


def _model() -> "object":
    """Returns the layer, and one that reads it."""
    import keras

    filters, size = FLAGS.filters, FLAGS.size
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((size, size, filters)),
            layers.Conv2D(filters, 3, padding="same", activation="relu", name="scored"),
            layers.Conv2D(filters, 3, padding="same", name="reader"),
        ]
    )
    rng = np.random.default_rng(0)
    kernel = model.get_layer("scored").kernel
    centres = rng.normal(size=(*kernel.shape[:-1], -(-filters // 4))).repeat(4, axis=-1)
    values = centres[..., :filters] + rng.normal(size=kernel.shape)
    kernel.assign(values / np.sqrt(kernel.shape[-2]))
    return model


def _main(argv: list[str]) -> None:
    del argv
    from tfprune import registry
    from tfprune.planning import Recipe

    names = FLAGS.criteria or [
        name
        for name, module in sorted(registry.names("tfprune.criteria").items())
        if ".clustering." in module
    ]
    specs = [spec for name in ["l2", *names] for spec in (name, *_VARIANTS.get(name, []))]
    model, rng = _model(), np.random.default_rng(1)
    x = rng.normal(size=(FLAGS.samples, *model.input_shape[1:])).astype("float32")
    data = (x, np.zeros(len(x), int))
    print(f"{FLAGS.filters} filters, {len(os.sched_getaffinity(0))} cores\n")
    print("| criterion | seconds | longest |\n|---|---|---|")
    for spec in specs:
        recipe = Recipe.of(None, criterion=spec, granularity="channel", correction="none")
        plan = recipe.bind(model, data=data)
        times = []
        for _ in range(FLAGS.runs):
            start = time.perf_counter()
            plan.scores()
            times.append(time.perf_counter() - start)
        print(f"| {spec} | {np.median(times):.2f} | {max(times):.2f} |", flush=True)


if __name__ == "__main__":
    app.run(_main)
