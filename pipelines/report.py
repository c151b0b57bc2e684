r"""Makes the report of a benchmark from its records: a page, figures and tables.

  python -m pipelines.report --records=runs/bench
  python -m pipelines.report --records=runs/bench --published --methods=snip/global,tfmot \
      --output_dir=report --tensorboard=logs

Records are all record.json below a directory: of pipelines.benchmark, of pipelines.prune, or of
another tool (docs/records.md). The report is report.html, which needs nothing else, figures/ as PNG
and SVG, and tables/ as CSV and LaTeX; by default it is put in report/ among the records.
"""

import pathlib
from typing import TYPE_CHECKING

from absl import flags

from . import flags as _flags
from . import run as runs

if TYPE_CHECKING:
    import pandas as pd

FLAGS = _flags.FLAGS


def _define() -> None:
    """Defines the flags.

    Not on import: pipelines.benchmark imports this module, and has --methods of its own.
    """
    flags.DEFINE_string("records", None, "The directory with records, at any depth.")
    flags.mark_flag_as_required("records")
    flags.DEFINE_list("methods", None, "Shows these and the controls; all methods by default.")
    flags.DEFINE_boolean("published", False, "Lays over the curves what papers reported.")
    flags.DEFINE_string("tensorboard", None, "Also writes trials for TensorBoard's HParams there.")
    flags.DEFINE_string("mlflow", None, "Also logs trials to MLflow at this tracking URI.")
    flags.declare_key_flag("output_dir")  # of those that pipelines share


def written(
    records: str | pathlib.Path,
    folder: str | pathlib.Path,
    *,
    methods: list[str] | None = None,
    published: bool = False,
) -> "pd.DataFrame":
    """Writes the report of all records below a directory, prints what it says; returns the trials.

    Raises:
      ValueError: if there are no records, or none of a method.
      OSError: if records can't be read, or the report can't be written.
    """
    from tfprune import literature
    from tfprune.evaluation import checklist
    from tfprune.evaluation import records as evaluated
    from tfprune.report import benchmark, formats
    from tfprune.report.benchmark import tables

    table = evaluated.load(records)
    for path, reason in table.attrs["skipped"]:
        print(f"left out: {formats.plain(path)}: {formats.plain(reason)}")
    if methods is not None:
        table = _only(table, methods)
    compared = benchmark.compare(table)
    for comparison in compared.comparisons:
        print(f"\n{tables.console(comparison)}")
    print("\n* the highest of several seeds; = not significantly below it (Games & Howell, 5 %)")
    print(f"\n{checklist.text(checklist.check(table))}")
    reported = literature.load() if published else None
    path = benchmark.write(table, folder, compared=compared, published=reported)
    print(f"\nreport: {path}")
    return table


def _only(table: "pd.DataFrame", methods: list[str]) -> "pd.DataFrame":
    """Returns the trials of some methods and of their controls."""
    from tfprune import registry

    known = table.loc[~table["control"].astype(bool), "method"].unique()
    for name in methods:
        if name not in known:
            raise registry.unknown("method", name, known)
    control = table["control"].astype(bool)
    of_another = table["replays"].notna() & ~table["replays"].isin(methods)
    return table[table["method"].isin(methods) | (control & ~of_another)].reset_index(drop=True)


def _main() -> None:
    from tfprune.report import sinks

    records = pathlib.Path(FLAGS.records)
    folder = pathlib.Path(FLAGS.output_dir) if FLAGS.output_dir else records / "report"
    table = written(records, folder, methods=FLAGS.methods, published=FLAGS.published)
    if FLAGS.tensorboard:
        added = sinks.tensorboard(table, FLAGS.tensorboard)
        print(f"TensorBoard: {added} trials added, see tensorboard --logdir={FLAGS.tensorboard}")
    if FLAGS.mlflow:
        print(f"MLflow: {sinks.mlflow(table, FLAGS.mlflow)} trials added at {FLAGS.mlflow}")


def main() -> None:
    """Runs the command."""
    _define()
    runs.main(_main)()


if __name__ == "__main__":
    main()
