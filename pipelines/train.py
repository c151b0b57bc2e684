"""Trains a standard model, or one's own, and measures it.

python -m pipelines.train --output_dir=runs/dense --model=resnet8 --dataset=cifar10
"""

from absl import flags

from tfprune.evaluation import records

from . import flags as _flags
from . import run as runs

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(_flags)
flags.mark_flag_as_required("output_dir")


def _main() -> None:
    from tfprune.measurement.facts import measure

    from . import training

    run = runs.Run(FLAGS.output_dir, FLAGS.get_key_flags_for_module(_flags))
    record = run.finished()
    if record is None:
        training.reproducible()
        splits = training.load_data()
        model = training.baseline(run, splits)
        facts = measure(model, data=splits.test)
        record = run.head() | training.about(splits)
        record["starting_weights_sha256"] = records.fingerprint(model)
        record |= {f"base_{key}": value for key, value in facts.items()}
        record["history"] = training.history(run, "train")
        run.finish(record)
    print(
        f"top-1 {100 * record['base_top1']:.2f} %, {record['base_params']:,} parameters, "
        f"{record['base_macs']:,} MACs: {run.path('baseline.keras')}"
    )


main = runs.main(_main)

if __name__ == "__main__":
    main()
