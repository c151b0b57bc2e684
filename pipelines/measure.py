r"""Runs any .tflite files on one or several devices, side by side.

  python -m pipelines.measure --files=dense.tflite,pruned.tflite --devices=local,arm64
  python -m pipelines.measure --files=a.tflite --devices=adb:R58M42 --benchmark_model=./bench

The first file is what the others are compared with, and takes turns with each when it is timed.
With --dataset they are judged on its test examples, else on random samples. With --output_dir the
table is written there as measure.csv.
"""

import os
import pathlib

from absl import flags

from . import flags as _flags
from . import run as runs

FLAGS = flags.FLAGS
_flags.define_measuring()
flags.adopt_module_key_flags(_flags)
flags.mark_flag_as_required("files")


def _main() -> None:
    import pandas as pd

    from tfprune.report import table as text
    from tfprune.tflite.benchmark import benchmark

    from . import files, training

    on = files.devices()
    given = FLAGS["dataset"].present
    test = files.test_examples(training.load_data()) if given else None
    table = benchmark(
        FLAGS.files,
        devices=on,
        data=test,
        device_samples=FLAGS.device_samples,
        threads=FLAGS.threads,
        runs=FLAGS.runs,
    )
    print(text.devices(files.rows(table)))
    if table.attrs["ops"]:
        print(f"\n{pd.DataFrame(table.attrs['ops']).to_string(index=False)}")
    if FLAGS.output_dir:
        folder = pathlib.Path(FLAGS.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".measure.csv.{os.getpid()}.partial"
        table.to_csv(partial, index=False)
        partial.replace(folder / "measure.csv")


main = runs.main(_main)

if __name__ == "__main__":
    main()
