"""How much faster a benchmark runs with more workers, each with one core of its own.

  python tools/bench_workers.py --cores=0,2,1,3 --workers=1,2,4

Cores are taken from the left: name one of each physical core first. The clock starts when every
worker has ended its first trial, in which it imports TensorFlow and reads the data. Prints trials a
minute, and their ratio to the first line's, over the ratio of workers.
"""

import itertools
import os
import tempfile
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_list("cores", ["0"], "Processor numbers.")
flags.DEFINE_list("workers", ["1"], "How many to compare; the first is the reference.")
flags.DEFINE_string("model", "digits_cnn", "The network.")
flags.DEFINE_integer("trials", 40, "Trials that are timed for each.")


def _main(_: list[str]) -> None:
    from tfprune.evaluation import engine, grid
    from tfprune.evaluation.store import Store

    print("| workers | trials a minute | speed-up | of ideal |\n|---|---|---|---|")
    cores, reference = [int(core) for core in FLAGS.cores], None
    for count in map(int, FLAGS.workers):
        said = {
            "pairs": [{"model": FLAGS.model, "dataset": "digits", "train_epochs": 1}],
            "methods": ["magnitude/global"],
            "controls": [],
            "points": [4],
            "seeds": list(range(FLAGS.trials + count)),
            "epochs": 0.5,
            "variants": [],
        }
        os.sched_setaffinity(0, cores[:count])  # workers inherit it
        todo = list(grid.trials(grid.build(said)))
        with tempfile.TemporaryDirectory() as folder, engine.cluster(workers=count) as client:
            ended = engine.run(client, todo, Store(folder))
            for _ in itertools.islice(ended, count):
                pass
            start = time.monotonic()
            timed = sum(1 for _ in ended)
            speed = 60 * timed / (time.monotonic() - start)
        reference = reference or (speed, count)
        gained = speed / reference[0]
        ideal = gained * reference[1] / count
        print(f"| {count} | {speed:.1f} | {gained:.2f} | {100 * ideal:.0f} % |", flush=True)


if __name__ == "__main__":
    app.run(_main)
