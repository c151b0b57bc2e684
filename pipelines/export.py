r"""Exports any Keras model to TFLite: every variant made, tried on every device, and measured.

  python -m pipelines.export --output_dir=out --model=mine.keras
  python -m pipelines.export --output_dir=out --model=mine.keras --dataset=mine.npz \
      --devices=local,arm64,ssh:pi@raspberrypi --max_bytes=500000 --optimize=latency

The directory then holds the .tflite files that load and agree with Keras on every device,
table.csv, storage.csv (how each kernel is stored, and why), record.json, report.html and flags.txt.
A model from a file without --dataset is compared on random samples, and has no int8 files, which
need real ones.
"""

import time
from typing import TYPE_CHECKING

from absl import flags

from tfprune import zoo
from tfprune.evaluation import records

from . import flags as _flags
from . import run as runs

if TYPE_CHECKING:
    import keras

    from tfprune import data

FLAGS = flags.FLAGS
_flags.define_tflite()
flags.adopt_module_key_flags(_flags)
flags.mark_flag_as_required("output_dir")


def _main() -> None:
    run = runs.Run(FLAGS.output_dir, FLAGS.get_key_flags_for_module(_flags))
    run.show(run.finished() or _run(run))


def _run(run: runs.Run) -> dict:
    """Returns the record of the run, made now."""
    start = time.monotonic()
    import pandas as pd

    import tfprune

    from . import files, training

    devices = files.devices()  # one that is away is an error before anything is loaded
    training.reproducible()
    splits = training.load_data() if _has_data() else None
    model = _model(splits)
    facts = tfprune.measure(model, data=splits and splits.test)
    table = files.export(
        run,
        model,
        "",
        splits,
        chosen=FLAGS.variants,
        on=devices,
        notes={key: facts[key] for key in ("params", "sparsity", "macs")},
    )
    about = {"model": training.model_name(), "dataset": "random samples"}
    if splits:
        about = training.about(splits)
    record = run.head() | about
    record["starting_weights_sha256"] = records.fingerprint(model)
    record |= {f"base_{key}": value for key, value in facts.items()}
    record |= {
        "tflite": files.rows(table),
        "storage": table.attrs["storage"],
        "ops": table.attrs["ops"],
        "recommended": files.recommended(table),
        "sparse_inference": files.sparse_inference(run, table),
        "seconds_total": round(time.monotonic() - start, 1),
    }
    run.write("table.csv", lambda path: table.to_csv(path, index=False))
    storage = pd.DataFrame(table.attrs["storage"])
    run.write("storage.csv", lambda path: storage.to_csv(path, index=False))
    run.finish(record)
    return record


def _has_data() -> bool:
    return FLAGS["dataset"].present or not FLAGS.model.lower().endswith(zoo.FILE_ENDINGS)


def _model(splits: "data.Splits | None") -> "keras.Model":
    import tfprune

    if splits is None:
        model = tfprune.load_model(FLAGS.model)
    else:
        model = zoo.resolve(FLAGS.model, splits.input_shape, splits.classes, seed=FLAGS.seed)
    return tfprune.prepare_for_sparse_inference(model) if FLAGS.prepare else model


main = runs.main(_main)

if __name__ == "__main__":
    main()
