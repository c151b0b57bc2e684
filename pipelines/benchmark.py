r"""Compares pruning methods under one protocol: data sets x models x methods x points x seeds.

  python -m pipelines.benchmark --output_dir=runs/bench
  python -m pipelines.benchmark --output_dir=runs/bench --protocol=structured \
      --pairs=resnet8@cifar10,lenet5@fashion_mnist --methods=l1,fpgm,taylor --seeds=0,1,2
  python -m pipelines.benchmark --output_dir=runs/bench --grid=grid.toml

Controls are added by themselves. The directory then holds runs/<id>/record.json, one a trial, and
report/ with tables and figures. Trials that are done are skipped: the same command goes on with a
benchmark that was stopped, another one adds to it.
"""

import contextlib
import sys
from typing import TYPE_CHECKING

from absl import flags

from . import flags as _flags
from . import run as runs

if TYPE_CHECKING:
    from tfprune.evaluation.settings import Trial
    from tfprune.evaluation.store import Store

FLAGS = flags.FLAGS
_flags.define_benchmark()
flags.adopt_module_key_flags(_flags)
flags.mark_flag_as_required("output_dir")


def _main() -> None:
    from tfprune.evaluation import grid

    from . import training

    training.reproducible()
    said = grid.read(FLAGS.grid) if FLAGS.grid else {}
    grids = grid.build(said, _flags.benchmark_settings(), source=FLAGS.grid or "the grid")
    trials = list(grid.trials(grids))
    if FLAGS.dry_run:
        print(*trials, f"{len(trials)} trials", sep="\n")
        return
    from tfprune.evaluation.store import Store

    store = Store(FLAGS.output_dir, retry_failed=FLAGS.retry_failed)
    with store.locked():
        failures = _carried_out(trials, store)
    for what, why in store.set_aside:
        print(f"set aside and run again: {what} ({why})")
    for trial, record in failures:
        print(f"failed: {trial}: {record['error']}", file=sys.stderr)
    _report(store)


def _carried_out(trials: "list[Trial]", store: "Store") -> list:
    """Runs what is not done; returns the trials that failed, with their records."""
    from tfprune.evaluation import engine

    from .progress import Progress

    failures = []
    with contextlib.ExitStack() as stack:
        client = None
        if any(store.record(trial) is None for trial in trials):
            client = stack.enter_context(engine.cluster(FLAGS.scheduler, workers=FLAGS.workers))
            print(f"dashboard: {client.dashboard_link}", flush=True)
            if FLAGS.scheduler:
                engine.check_workers(client, list({trial.pair for trial in trials}))
        progress = stack.enter_context(Progress(trials))
        for trial, record, new in engine.run(client, trials, store):
            progress.update(trial, record, new=new)
            if record["status"] != "ok":
                failures.append((trial, record))
    return failures


def _report(store: "Store") -> None:
    """Writes the report of all records in the directory, and prints what it says."""
    from . import report

    report.written(store.directory, store.directory / "report")


main = runs.main(_main)

if __name__ == "__main__":
    main()
