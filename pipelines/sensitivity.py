r"""Measures what each layer of a model loses when it alone is pruned: where the model can be cut.

  python -m pipelines.sensitivity --output_dir=runs/scan --model=resnet.h5 --dataset=cifar10
  python -m pipelines.sensitivity --output_dir=runs/wide --granularity=channel --criterion=l2

The directory then holds sensitivity.csv (a row for each layer and sparsity), sensitivity.png and
.svg, record.json and the dense model. The same command goes on with a scan that was stopped. An
allocation goes by the table:

  python -m pipelines.prune --output_dir=runs/cut --model=resnet.h5 --target=macs:0.5 \
      "--allocation=sensitivity('runs/scan/sensitivity.csv')"
"""

import json
import sys
import time
from typing import TYPE_CHECKING

from absl import flags

from tfprune.evaluation import records

from . import flags as _flags
from . import run as runs

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf

    from tfprune import data
    from tfprune.sensitivity import Scan

FLAGS = flags.FLAGS
_flags.define_scan()
flags.adopt_module_key_flags(_flags)
flags.mark_flag_as_required("output_dir")


def _main() -> None:
    run = runs.Run(FLAGS.output_dir, FLAGS.get_key_flags_for_module(_flags))
    if run.finished() is None:
        _run(run)
    import pandas as pd

    from tfprune.report import sensitivity_plot

    table = pd.read_csv(run.path("sensitivity.csv"))
    for name in ("sensitivity.png", "sensitivity.svg"):
        run.write(name, lambda path: sensitivity_plot.write(table, path))
    print(_text(table))
    print(f"\ntable: {run.path('sensitivity.csv')}\npicture: {run.path('sensitivity.png')}")


def _run(run: runs.Run) -> None:
    """Scans, and writes the table and the record."""
    from . import training

    start = time.monotonic()
    training.reproducible()
    from tfprune import planning
    from tfprune.sensitivity import SPARSITIES, Scan

    words = {name: getattr(FLAGS, name) for name in ("criterion", "granularity", "correction")}
    planning.Recipe.of(None, **words)  # a wrong word is an error before anything is loaded
    splits = training.load_data()
    model = training.baseline(run, splits)
    scan = Scan(
        model,
        _evaluation(splits),
        **words,
        protect=tuple(FLAGS.protect),
        sparsities=[float(x) for x in FLAGS.sparsities] if FLAGS.sparsities else SPARSITIES,
        data=splits.calibration(FLAGS.calibration_samples, FLAGS.seed),
        seed=FLAGS.seed,
    )
    table = _scanned(run, scan)
    if FLAGS.layer_ms:
        print("each layer alone is converted and timed")
        table["ms"] = table["layer"].map(scan.times(threads=FLAGS.threads))
        run.write("sensitivity.csv", lambda file: table.to_csv(file, index=False))
    record = run.head() | training.about(splits)
    record["starting_weights_sha256"] = records.fingerprint(model)
    record |= {f"dense_{key}": value for key, value in scan.dense.items()}
    record["sensitivity"] = json.loads(table.to_json(orient="records", double_precision=15))
    run.finish(record | {"seconds_total": round(time.monotonic() - start, 1)})


def _evaluation(splits: "data.Splits") -> "tf.data.Dataset":
    """Returns validation examples, evenly spaced, since they may be stored class by class."""
    size = splits.sizes["validation"]
    every = max(size // FLAGS.eval_samples, 1)
    chosen = splits.validation.unbatch().shard(every, 0).take(FLAGS.eval_samples)
    return chosen.batch(256).cache()


def _scanned(run: runs.Run, scan: "Scan") -> "pd.DataFrame":
    """Returns the table, which is written anew after each layer."""
    import keras
    import pandas as pd

    path = run.path("sensitivity.csv")
    done = []
    if path.exists():
        table = pd.read_csv(path)
        done = table.to_dict("records")
        print(f"{len(done)} of {len(scan)} points are taken from {path}")
    rows, size = [], len(scan.sparsities)
    bar = keras.utils.Progbar(len(scan)) if sys.stdout.isatty() else None
    for row in scan.rows(done):
        rows.append(row)
        if bar:
            bar.update(len(rows))
        if len(rows) % size or len(rows) <= len(done):
            continue
        table = pd.DataFrame(rows)
        run.write(path.name, lambda file, t=table: t.to_csv(file, index=False))
        if not bar:
            print(f"{len(rows) // size} of {len(scan.names)}: {_line(table[-size:])}", flush=True)
    return pd.DataFrame(rows)


def _line(layer: "pd.DataFrame") -> str:
    column, unit = ("top1_change", 100) if "top1_change" in layer else ("loss_change", 1)
    pairs = zip(layer["sparsity"], unit * layer[column], strict=True)
    changes = ", ".join(f"{value:+.1f} at {100 * sparsity:g} %" for sparsity, value in pairs)
    return f"{layer['layer'].iloc[0]} {'top-1' if unit == 100 else 'loss'} {changes}"


def _text(table: "pd.DataFrame") -> str:
    """Returns the changes as a table for the console."""
    known = "top1_change" in table
    wide = table.pivot(
        index="layer", columns="sparsity", values="top1_change" if known else "loss_change"
    ).loc[table["layer"].drop_duplicates()]
    wide = wide.rename(columns="{:.0%}".format).rename_axis(index=None, columns=None)
    title = "change of top-1 in points" if known else "change of the loss"
    return f"{title}, each layer pruned alone:\n{(wide * (100 if known else 1)).round(1)}"


main = runs.main(_main)

if __name__ == "__main__":
    main()
