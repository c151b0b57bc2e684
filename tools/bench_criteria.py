r"""What scoring costs, as a ratio to one forward-backward pass over the same calibration samples.

  python tools/bench_criteria.py

The cost that grows with the samples is the difference between scoring many and few of them; what
remains is fixed: tracing, and what is computed from the statistics. Weights and samples are random:
the time does not depend on them.
"""

import resource
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags

from tfprune import criteria, registry

flags.DEFINE_list("networks", ["resnet20", "MobileNetV2"], "Which to score.")
flags.DEFINE_list("criteria", [], "Which; all that need data if empty.")
flags.DEFINE_list("samples", ["64", "512"], "Few and many calibration samples.")
flags.DEFINE_integer("size", None, "Of the input; 32 for ResNets, 96 for others if not given.")
FLAGS = flags.FLAGS


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _passes(model: "object", x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns the seconds of a forward pass, and of a forward-backward pass, traced before."""
    import keras
    import tensorflow as tf

    loss = keras.losses.SparseCategoricalCrossentropy()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(64).cache()
    variables = model.trainable_variables

    @tf.function
    def forward(images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(model(images, training=False))

    @tf.function
    def both(images: tf.Tensor, labels: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=False))
        return [tf.convert_to_tensor(g) for g in tape.gradient(value, variables)]

    def once(step: Callable, count: int) -> float:
        return _timed(lambda: [step(*batch[:count]) for batch in batches])

    once(forward, 1), once(both, 2)
    return (
        float(np.median([once(forward, 1) for _ in range(3)])),
        float(np.median([once(both, 2) for _ in range(3)])),
    )


def _measure(network: str, names: list[str]) -> None:
    """Prints one row a criterion."""
    import tfprune
    from tfprune.planning import Recipe

    few, many = (int(n) for n in FLAGS.samples)
    size = FLAGS.size or (32 if network.startswith("resnet") else 96)
    model = tfprune.zoo.resolve(network, (size, size, 3), 10)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(many, size, size, 3)).astype("float32")
    y = rng.integers(0, 10, many)
    forward, both = _passes(model, x, y)

    def seconds(recipe: Recipe, count: int) -> float:
        plan = recipe.bind(model, data=(x[:count], y[:count]))
        return _timed(plan.scores)

    for name in names:
        own = getattr(criteria.get(name).definition, "GRANULARITIES", ("weight",))
        recipe = Recipe.of(None, criterion=name, granularity=own[-1])
        short, long = seconds(recipe, few), seconds(recipe, many)
        grows = max(long - short, 0) * many / (many - few)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {network}-{size} | {name} | {grows / both:.2f} | {grows / forward:.2f} "
            f"| {long - grows:.1f} | {peak:.0f} |",
            flush=True,
        )


def _main(argv: list[str]) -> None:
    del argv
    names = FLAGS.criteria or [
        name
        for name, module in sorted(registry.names("tfprune.criteria").items())
        if "sensitivity" in module
    ]
    print("| network | criterion | forward-backward passes | forward passes | fixed s | peak MB |")
    print("|---|---|---|---|---|---|")
    for network in FLAGS.networks:
        _measure(network, names)


if __name__ == "__main__":
    app.run(_main)
