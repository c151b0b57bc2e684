r"""Prunes a Keras model, fine-tunes it, exports it to TFLite and measures what was gained.

  python -m pipelines.prune --output_dir=runs/first
  python -m pipelines.prune --output_dir=runs/mine --model=mine.keras --dataset=mine.npz \
      --target=sparsity:0.9

The directory then holds record.json, report.html, model.keras, baseline.keras, tflite/*.tflite,
flags.txt and logs/. The same command goes on with a run that was stopped.

  python -m pipelines.prune --output_dir=runs/small --granularity=channel --target=macs:0.5
  python -m pipelines.prune --model=MobileNetV2 --explain

The first removes channels: the model is made smaller, then fine-tuned.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from tfprune import registry, zoo
from tfprune.evaluation import records
from tfprune.tflite.variants import VARIANTS

from . import flags as _flags
from . import run as runs

if TYPE_CHECKING:
    import keras

    import tfprune
    from tfprune import data

FLAGS = flags.FLAGS
_WHEN = ("method", "schedule", "begin", "end", "frequency")

_flags.define_pruning()
flags.adopt_module_key_flags(_flags)


def _main() -> None:
    if FLAGS.explain:
        _explain()
        return
    run = runs.Run(FLAGS.output_dir, FLAGS.get_key_flags_for_module(_flags))
    run.show(run.finished() or _run(run))


def _run(run: runs.Run) -> dict:
    """Returns the record of the run, made now."""
    from . import files, training

    start = time.monotonic()
    files.devices()  # one that is away is an error before hours of training
    training.reproducible()
    words = _words()  # a wrong one is an error before anything is loaded
    import tfprune
    from tfprune.measurement import facts

    splits = training.load_data()
    record = run.head() | training.about(splits)
    dense = training.baseline(run, splits)
    record["starting_weights_sha256"] = records.fingerprint(dense)
    base = tfprune.measure(dense, data=splits.test)
    print(f"dense model: top-1 {100 * base['top1']:.2f} % on {splits.sizes['test']} test examples")
    words |= {"data": splits.calibration(FLAGS.calibration_samples, FLAGS.seed)}
    pruned, skipped = _pruned(run, dense, splits, words)
    after = tfprune.measure(pruned, data=splits.test)
    if splits.validation is not None:
        record["pruned_val_top1"] = tfprune.measure(pruned, data=splits.validation)["top1"]
    record |= {f"base_{key}": value for key, value in base.items()}
    record |= {f"pruned_{key}": value for key, value in after.items()}
    gained = {
        "sparsity": after["sparsity"],
        "compression_ratio": base["params"] / after["nonzero_params"],
        "theoretical_speedup": base["macs"] / max(after["nonzero_macs"], 1),
    }
    record |= gained
    record |= {
        "layers": facts.layers(pruned),
        "channels": facts.channels(dense, pruned) if _by_channel() else [],
        "filters": _noted(run, "filters"),
        "skipped": skipped,
        "history": training.history(run, "finetune", FLAGS.steps),
        **_noted(run, "pruning"),
        **_files(run, dense, pruned, splits, notes=_how() | gained),
        "seconds_total": round(time.monotonic() - start, 1),
    }
    run.finish(record)
    return record


def _explain() -> None:
    import tfprune

    from . import training

    splits = training.load_data()
    model = zoo.resolve(FLAGS.model, splits.input_shape, splits.classes, seed=FLAGS.seed)
    print(tfprune.explain(model).to_string(index=False, max_colwidth=60))


def _words() -> dict[str, object]:
    """Returns the words of `tfprune.prune` or `tfprune.Pruner`, checked."""
    import tfprune
    from tfprune import planning, targets

    words = {name: getattr(FLAGS, name) for name in planning.WORDS}
    words |= {"protect": tuple(FLAGS.protect)}
    recipe = planning.Recipe.of(**words)
    given = [x for x in _WHEN if FLAGS[x].value != FLAGS[x].default]
    if given and (_by_channel() or not FLAGS.epochs):
        raise ValueError(
            f"--{given[0]} says how masks change in training: it needs --epochs above 0 and "
            "another granularity than channel, which is pruned in --steps"
        )
    if _by_channel():
        _zeroing(words)
        targets.split(recipe.target, FLAGS.steps, dict.fromkeys(("params", "macs"), 1.0))
        return words
    channel_only = [x for x in ("steps", "sparsify") if FLAGS[x].value != FLAGS[x].default]
    if channel_only:
        raise ValueError(f"--{channel_only[0]} needs --granularity=channel")
    if FLAGS.rounds is not None and FLAGS.epochs:
        raise ValueError(
            "--rounds is for pruning at once: give --epochs=0 or --granularity=channel; along a "
            "schedule, every update of the masks scores anew"
        )
    words |= {name: getattr(FLAGS, name) for name in _WHEN}
    for moment in ("begin", "end"):
        if words[moment] is not None and words[moment].isdigit():
            words[moment] = int(words[moment])
    if FLAGS.epochs:
        tfprune.Pruner(**words)
    return words


def _how() -> dict[str, object]:
    """Returns how the model was pruned, as its files say it."""
    from tfprune import planning

    return {word: getattr(FLAGS, word) for word in planning.WORDS if getattr(FLAGS, word)}


def _by_channel() -> bool:
    return registry.parse(FLAGS.granularity)[0] == "channel"


def _pruned(
    run: runs.Run, dense: "keras.Model", splits: "data.Splits", words: dict[str, object]
) -> tuple["keras.Model", list[dict[str, str]]]:
    """Returns the pruned and fine-tuned model, and what was left out of pruning with the reason."""
    import tfprune
    from tfprune import planning
    from tfprune.measurement import redundancy

    if FLAGS.filters_of:
        redundancy.find(dense, FLAGS.filters_of)
    path = run.path("model.keras")
    if path.exists():
        print(f"pruned model: taken from {path}")
        return tfprune.load_model(path), json.loads(run.path("logs/skipped.json").read_text())
    recipe = planning.Recipe.of(**{k: v for k, v in words.items() if k in planning.WORDS})
    plan = recipe.bind(dense, data=words["data"])
    if not recipe.target.found:
        plan.check()  # what can't be met is better said now than after hours of training
    prune = _shrunk if _by_channel() else _masked
    if FLAGS.cluster_weights:
        model = _shared(run, functools.partial(prune, run, dense, splits, words), splits)
    else:
        model = prune(run, dense, splits, words)
    tfprune.reestimate_batchnorm(model, splits.train)
    rows = [dataclasses.asdict(entry) for entry in plan.skipped]
    run.write("logs/skipped.json", lambda file: file.write_text(json.dumps(rows)))
    run.write("model.keras", model.save)
    return model, rows


def _masked(
    run: runs.Run, dense: "keras.Model", splits: "data.Splits", words: dict[str, object]
) -> "keras.Model":
    """Returns a model of the same shape with zeros, made while it was fine-tuned."""
    import tfprune
    from tfprune import planning, pruning

    from . import training

    if FLAGS.epochs:
        model = pruning.clone(dense)
        pruner = tfprune.Pruner(**words, log_dir=run.path("logs/finetune"))
        training.fit(
            run,
            model,
            splits,
            name="finetune",
            epochs=FLAGS.epochs,
            learning_rate=FLAGS.learning_rate,
            cycle=pruner.cycle(FLAGS.epochs, len(splits.train)),
            callbacks=[pruner, *_teacher(dense)],
        )
        _note_pruning(run, pruner)
    else:
        known = (*planning.WORDS, "data")
        model = tfprune.prune(
            dense, **{k: v for k, v in words.items() if k in known}, rounds=FLAGS.rounds
        )
    if registry.parse(FLAGS.granularity)[0] == "filter":
        _note_filters(run, dense, model)
    return model


def _teacher(dense: "keras.Model") -> list["keras.callbacks.Callback"]:
    """Returns what --distill asks for."""
    import tfprune

    if FLAGS.distill is None:
        return []
    return [
        tfprune.Distillation(
            dense if FLAGS.distill == "own" else FLAGS.distill,
            weight=FLAGS.distill_weight,
            temperature=FLAGS.distill_temperature,
        )
    ]


def _shrunk(
    run: runs.Run, dense: "keras.Model", splits: "data.Splits", words: dict[str, object]
) -> "keras.Model":
    """Returns a smaller model: pruned, made smaller and fine-tuned, in one or several steps."""
    import tfprune
    from tfprune import targets

    from . import training

    goals = targets.split(targets.parse(words["target"]), FLAGS.steps, tfprune.measure(dense))
    model = _sparsified(run, dense, splits, words)
    for number, goal in enumerate(goals, 1):
        path = run.path(f"logs/step{number}.keras")
        if path.exists():
            print(f"step {number}: taken from {path}")
            model = tfprune.load_model(path)
            continue
        pruned = tfprune.prune(
            model,
            **words | {"target": goal},
            rounds=FLAGS.rounds,
            variant=FLAGS.target_variant,
            threads=FLAGS.threads,
        )
        if number == 1:
            _note_filters(run, model, pruned)
        model = tfprune.shrink(pruned)
        facts = tfprune.measure(model)
        print(f"step {number}: {goal}: {facts['params']:,} parameters, {facts['macs']:,} MACs")
        done = FLAGS.epochs * (number - 1) // FLAGS.steps
        training.fit(
            run,
            model,
            splits,
            name=f"finetune{number}" if FLAGS.steps > 1 else "finetune",
            epochs=FLAGS.epochs * number // FLAGS.steps - done,
            learning_rate=FLAGS.learning_rate,
            callbacks=_teacher(dense),
        )
        if number < len(goals):
            run.write(f"logs/step{number}.keras", model.save)
    return model


def _sparsified(
    run: runs.Run, dense: "keras.Model", splits: "data.Splits", words: dict[str, object]
) -> "keras.Model":
    """Returns `dense` after the training that --sparsify asks for."""
    import tfprune
    from tfprune import masks, pruning

    from . import training

    if FLAGS.sparsify == "none":
        return dense
    path = run.path("logs/sparsified.keras")
    if path.exists():
        print(f"sparsified model: taken from {path}")
        model = tfprune.load_model(path)
        masks.hold_zeros(model)  # what is zero already goes first
        return model
    callback = _zeroing(words)
    if callback is None:
        strength = {} if FLAGS.sparsify_strength is None else {"strength": FLAGS.sparsify_strength}
        callback = tfprune.GroupSparsity(FLAGS.sparsify, protect=tuple(FLAGS.protect), **strength)
    model = pruning.clone(dense)
    training.fit(
        run,
        model,
        splits,
        name="sparsify",
        epochs=FLAGS.sparsify_epochs,
        learning_rate=FLAGS.learning_rate,
        callbacks=[callback],
    )
    run.write("logs/sparsified.keras", model.save)
    masks.hold_zeros(model)
    return model


def _zeroing(words: dict[str, object]) -> "keras.callbacks.Callback | None":
    """Returns the callback of a --sparsify that prunes by itself, None for the others."""
    import tfprune

    kinds = {"soft": tfprune.SoftPruner, "centripetal": tfprune.Centripetal}
    if FLAGS.sparsify not in kinds:
        return None
    return kinds[FLAGS.sparsify](**{k: v for k, v in words.items() if k != "correction"})


def _shared(
    run: runs.Run, prune: Callable[[], "keras.Model"], splits: "data.Splits"
) -> "keras.Model":
    """Returns the pruned model with shared weights, fine-tuned."""
    import tfprune

    from . import training

    path = run.path("logs/pruned.keras")
    if path.exists():
        print(f"pruned model, before weights are shared: taken from {path}")
        model = tfprune.load_model(path)
    else:
        model = prune()
        run.write("logs/pruned.keras", model.save)
    model = tfprune.cluster_weights(
        model,
        FLAGS.cluster_weights,
        initialisation=FLAGS.cluster_initialisation,
        per=FLAGS.cluster_per,
        protect=tuple(FLAGS.protect),
        seed=FLAGS.seed,
    )
    training.fit(
        run,
        model,
        splits,
        name="share",
        epochs=FLAGS.cluster_epochs,
        learning_rate=FLAGS.learning_rate,
    )
    return model


def _note_pruning(run: runs.Run, pruner: "tfprune.Pruner") -> None:
    """Writes down how pruning went, update by update and epoch by epoch."""
    table = pruner.by_epoch
    changed = (
        table[["pruned", "regrown"]].mul(table["weights"], axis=0).groupby(table["epoch"]).sum()
    )
    shares = changed.div(table.groupby("epoch")["weights"].sum(), axis=0).reset_index()
    found = json.dumps(
        {
            "pruning_history": pruner.history.to_dict("records"),
            "mask_churn": shares.to_dict("records"),
        }
    )
    run.write("logs/pruning.json", lambda path: path.write_text(found))


def _note_filters(run: runs.Run, dense: "keras.Model", pruned: "keras.Model") -> None:
    """Writes down, before zeros are removed, what the report shows of a layer's filters."""
    from tfprune.measurement import redundancy

    found = json.dumps(redundancy.filters(dense, pruned, layer=FLAGS.filters_of))
    run.write("logs/filters.json", lambda path: path.write_text(found))


def _noted(run: runs.Run, name: str) -> dict[str, object]:
    path = run.path(f"logs/{name}.json")
    return json.loads(path.read_text()) if path.exists() else {}


def _files(
    run: runs.Run,
    dense: "keras.Model",
    pruned: "keras.Model",
    splits: "data.Splits",
    *,
    notes: dict[str, object],
) -> dict[str, object]:
    """Returns what the record says of TFLite files, which are made and measured now."""
    from . import files

    on, rows = files.devices(), []
    for name, model, folder, variants, said in (
        ("baseline", dense, "tflite/baseline", FLAGS.baseline_variants, {}),
        ("pruned", pruned, "tflite", _variants(), notes),
    ):
        print(f"TFLite files of the {name} model: converted, loaded, compared, timed")
        plain = run.path("tflite/baseline/float32.tflite")
        timed_beside = plain if name == "pruned" and plain.exists() else None
        made = files.export(
            run, model, folder, splits, chosen=variants, on=on, baseline=timed_beside, notes=said
        )
        made.insert(0, "model", name)
        rows = files.rows(made) + rows
    return {
        "tflite": rows,
        "storage": made.attrs["storage"],
        "ops": made.attrs["ops"],
        "recommended": files.recommended(made),
        "sparse_inference": files.sparse_inference(run, made),
    }


def _variants() -> list[str]:
    """Returns which files to make of the pruned model."""
    if _by_channel() and FLAGS.variants == FLAGS["variants"].default:
        return [x for x in FLAGS.variants if not VARIANTS[x].sparse]  # there are no zeros
    return FLAGS.variants


main = runs.main(_main)

if __name__ == "__main__":
    main()
