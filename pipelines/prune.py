r"""Prunes a Keras model, fine-tunes it, exports it to TFLite and measures what was gained.

  python -m pipelines.prune --output_dir=runs/first
  python -m pipelines.prune --output_dir=runs/mine --model=mine.keras --dataset=mine.npz \
      --target=sparsity:0.9

The directory then holds record.json, report.html, model.keras, baseline.keras, tflite/*.tflite,
flags.txt and logs/. The same command goes on with a run that was stopped.
"""

import dataclasses
import json
import time
from typing import TYPE_CHECKING

from absl import flags, logging

from . import flags as _flags
from . import run as runs

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from tfprune import data

FLAGS = flags.FLAGS
_flags.define_pruning()
flags.adopt_module_key_flags(_flags)
flags.mark_flag_as_required("output_dir")


def _main() -> None:
    run = runs.Run(FLAGS.output_dir, FLAGS.get_key_flags_for_module(_flags))
    record = run.finished() or _run(run)
    from tfprune.report import html, table

    run.write("report.html", lambda path: html.write(record, path))
    print(table.text(record))
    print(f"\nreport: {run.path('report.html')}")


def _run(run: runs.Run) -> dict:
    """Returns the record of the run, made now."""
    from . import training

    start = time.monotonic()
    training.reproducible()
    words = _words()  # a wrong one is an error before anything is loaded
    import tfprune
    from tfprune.measurement import facts

    splits = training.load_data()
    record = run.head() | training.about(splits)
    dense = training.baseline(run, splits)
    record["starting_weights_sha256"] = training.fingerprint(dense)
    base = tfprune.measure(dense, data=splits.test)
    print(f"dense model: top-1 {100 * base['top1']:.2f} % on {splits.sizes['test']} test examples")
    pruned, skipped = _pruned(run, dense, splits, words)
    after = tfprune.measure(pruned, data=splits.test)
    if splits.validation is not None:
        record["pruned_val_top1"] = tfprune.measure(pruned, data=splits.validation)["top1"]
    record |= {f"base_{key}": value for key, value in base.items()}
    record |= {f"pruned_{key}": value for key, value in after.items()}
    record |= {
        "sparsity": after["sparsity"],
        "compression_ratio": base["params"] / after["nonzero_params"],
        "theoretical_speedup": base["macs"] / max(after["nonzero_macs"], 1),
        "layers": facts.layers(pruned),
        "skipped": skipped,
        "history": training.history(run, "finetune"),
        **_files(run, dense, pruned, splits),
        "seconds_total": round(time.monotonic() - start, 1),
    }
    run.finish(record)
    return record


def _words() -> dict[str, object]:
    """Returns the words of `tfprune.Pruner`, checked."""
    import tfprune

    names = ("target", "criterion", "granularity", "allocation", "schedule", "begin", "end")
    words = {name: getattr(FLAGS, name) for name in (*names, "frequency", "min_keep", "seed")}
    words |= {"protect": tuple(FLAGS.protect)}
    for moment in ("begin", "end"):
        if words[moment] is not None and words[moment].isdigit():
            words[moment] = int(words[moment])
    tfprune.Pruner(**words)
    return words


def _pruned(
    run: runs.Run, dense: "keras.Model", splits: "data.Splits", words: dict[str, object]
) -> tuple["keras.Model", list[dict[str, str]]]:
    """Returns the pruned and fine-tuned model, and what was left out of pruning with the reason."""
    import tfprune
    from tfprune import pruning

    from . import training

    path = run.path("model.keras")
    if path.exists():
        print(f"pruned model: taken from {path}")
        return tfprune.load_model(path), json.loads(run.path("logs/skipped.json").read_text())
    pruner = tfprune.Pruner(**words)
    skipped = pruner.plan(dense).skipped  # also says now, not after hours, what can't be met
    if FLAGS.epochs:
        model = pruning.clone(dense)
        training.fit(
            run,
            model,
            splits,
            name="finetune",
            epochs=FLAGS.epochs,
            learning_rate=FLAGS.learning_rate,
            callbacks=[pruner],
        )
    else:
        one_shot = {k: v for k, v in words.items() if k in pruning.WORDS}
        model = tfprune.prune(dense, **one_shot)
    tfprune.reestimate_batchnorm(model, splits.train)
    rows = [dataclasses.asdict(entry) for entry in skipped]
    run.write("logs/skipped.json", lambda file: file.write_text(json.dumps(rows)))
    run.write("model.keras", model.save)
    return model, rows


def _files(
    run: runs.Run, dense: "keras.Model", pruned: "keras.Model", splits: "data.Splits"
) -> dict[str, object]:
    """Returns the record's `tflite` and `recommended`: the files, made and measured now."""
    import pandas as pd

    import tfprune
    from tfprune.tflite.recommend import recommend

    logging.set_verbosity(logging.INFO)  # a line a file
    test = splits.test
    if FLAGS.verify_samples:
        test = test.unbatch().take(FLAGS.verify_samples).batch(FLAGS.batch_size)
    tables = {}
    for name, model, folder, variants in (
        ("pruned", pruned, "tflite", FLAGS.variants),
        ("baseline", dense, "tflite/baseline", FLAGS.baseline_variants),
    ):
        print(f"TFLite files of the {name} model: converted, loaded, compared, timed")
        table = tfprune.export(
            model,
            run.path(folder),
            variants=variants,
            calibration=splits.train_plain,
            evaluation=test,
            threads=FLAGS.threads,
            runs=FLAGS.runs,
        )
        table.insert(0, "model", name)
        table["file"] = folder + "/" + table["file"]
        tables[name] = table
    try:
        row, reason = recommend(tables["pruned"])
        recommended = {"file": row["file"], "variant": row["variant"], "reason": reason}
    except ValueError as error:
        print(error)
        recommended = None
    return {"tflite": _rows(pd.concat(tables.values())), "recommended": recommended}


def _rows(table: "pd.DataFrame") -> list[dict[str, object]]:
    """Returns the table as JSON rows, null where a figure is missing."""
    return json.loads(table.to_json(orient="records", double_precision=15))


main = runs.main(_main)

if __name__ == "__main__":
    main()
