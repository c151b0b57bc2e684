"""Peak memory of pruning a large model: four dense kernels, 100 million weights if not told else.

  python tools/bench_memory.py

Each row is a process of its own: the model is built, and pruned in place to 90 % (n:m: 50 %), or
fitted for four steps with `Pruner`. "before" is what the process needed until then, with TensorFlow
and the model in it; "peak" is the most that it ever had.
"""

import json
import math
import resource
import subprocess
import sys
import time

from absl import app, flags

# What is measured: how, and the words of `prune` and `Pruner` that are not the defaults.
CASES = {
    "global": {},
    "uniform": {"allocation": "uniform"},
    "erk": {"allocation": "erk"},
    "lamp": {"allocation": "lamp"},
    "block": {"granularity": "block(4, 1)"},
    "n_m": {"granularity": "n_m(2, 4)", "target": "sparsity:0.5"},
    "params": {"target": "params:0.1"},
    "snip": {"criterion": "snip"},
    "taylor": {"criterion": "taylor"},
    "pruner": {},
}

flags.DEFINE_list("cases", [], f"Which to measure, of {', '.join(CASES)}; all if empty.")
flags.DEFINE_integer("width", 5000, "Of the four kernels, each width x width.")
flags.DEFINE_integer("samples", 8, "Calibration samples, of criteria that need them.")
flags.DEFINE_string("child", "", "The one to measure in this process.")
FLAGS = flags.FLAGS


def _peak() -> float:
    """Returns the most memory that this process ever had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def _measure(case: str) -> dict[str, float]:
    """Returns what one case needs: memory in GB, time in seconds."""
    import keras
    import numpy as np

    import tfprune

    width, rng = FLAGS.width, np.random.default_rng(0)
    layers = [keras.layers.Dense(width, use_bias=False, name=f"dense{i}") for i in range(4)]
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.compile("sgd", "mse")
    x, y = (rng.random((FLAGS.samples, width), np.float32) for _ in range(2))
    words = {"target": "sparsity:0.9"} | CASES[case]
    if words.get("criterion"):
        words["data"] = x, y
    if case == "pruner":
        model.fit(x, y, verbose=0)  # what training needs anyway is in "before"
    before, start = _peak(), time.perf_counter()
    if case == "pruner":
        words |= {"end": 3, "frequency": 1}
        model.fit(x, y, epochs=4, verbose=0, callbacks=[tfprune.Pruner(**words)])
    else:
        tfprune.prune(model, in_place=True, **words)
    seconds = time.perf_counter() - start
    zeros = 1 - tfprune.measure(model)["nonzero_params"] / (4 * width**2)
    if not math.isclose(zeros, 0.5 if case == "n_m" else 0.9, abs_tol=1e-3):
        raise ValueError(f"{zeros:.4f} of the weights are zero")
    return {"before": before, "peak": _peak(), "seconds": seconds}


def _main(argv: list[str]) -> None:
    del argv
    if FLAGS.child:
        print(json.dumps(_measure(FLAGS.child)))
        return
    print("| case | before GB | peak GB | bytes a weight | seconds |")
    print("|---|---|---|---|---|")
    for case in FLAGS.cases or CASES:
        flags_of_child = [f"--{name}={FLAGS[name].value}" for name in ("width", "samples")]
        done = subprocess.run(
            [sys.executable, __file__, f"--child={case}", *flags_of_child],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        row = json.loads(done.stdout.splitlines()[-1])
        each = (row["peak"] - row["before"]) * 1024**3 / (4 * FLAGS.width**2)
        print(
            f"| {case} | {row['before']:.2f} | {row['peak']:.2f} | {each:.0f} "
            f"| {row['seconds']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(_main)
