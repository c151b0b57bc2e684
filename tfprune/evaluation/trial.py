"""One trial carried out: the dense network pruned, fine-tuned, judged, its files made and timed.

Nothing is read but the data set and nothing is written: a trial runs in any process, on any
machine, and its record is what it returns. Everything that has a say in it comes from its seed.
"""

import dataclasses
import datetime
import functools
import json
import pathlib
import tempfile
import time
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

import tfprune
from tfprune import data, zoo
from tfprune.evaluation import methods, records, replay, tuning
from tfprune.evaluation.settings import Pair, Trial
from tfprune.graph import kernels as k
from tfprune.measurement import accuracy, facts
from tfprune.planning import Recipe

Record = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A dense network, which all trials of a pair start from.

    Attributes:
      keras: the bytes of its .keras file.
      tflite: those of its float32 .tflite file, which others are timed beside.
      record: what is known of it.
    """

    keras: bytes
    tflite: bytes
    record: Record

    def model(self) -> keras.Model:
        """Returns the network."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "dense.keras")
            path.write_bytes(self.keras)
            return tfprune.load_model(path)


def train(pair: Pair) -> Baseline:
    """Returns the dense network of a pair: from its file, or trained now.

    Raises:
      ValueError, OSError: if model and data don't fit, or aren't there.
    """
    start = time.monotonic()
    _reset(seed=0)
    splits = _splits(pair)
    model = zoo.resolve(pair.model, splits.input_shape, splits.classes, seed=0)
    epochs = 0 if pair.from_file else pair.train_epochs
    _tune(model, splits, pair, epochs=epochs, learning_rate=pair.train_learning_rate, seed=0)
    judged = tfprune.measure(model, data=splits.test)
    record = {f"base_{key}": value for key, value in judged.items()}
    record["base_val_top1"] = _on_validation(model, splits)
    with tempfile.TemporaryDirectory() as folder:
        tfprune.export(model, folder, variants=["float32"], evaluation=_some(splits, 500))
        made = pathlib.Path(folder, "float32.tflite")  # there is none of a model it can't convert
        tflite = made.read_bytes() if made.exists() else b""
        path = pathlib.Path(folder, "dense.keras")
        plain = keras.models.clone_model(model)  # without an optimizer: each trial has its own
        plain.set_weights(model.get_weights())
        plain.save(path)
        saved = path.read_bytes()
    record |= {
        "starting_weights_sha256": records.fingerprint(model),
        "train_epochs": epochs,
        "classes": splits.classes,
        "input_shape": list(splits.input_shape),
        **{f"{split}_examples": size for split, size in splits.sizes.items()},
        "seconds_train": round(time.monotonic() - start, 1),
    }
    return Baseline(saved, tflite, record)


def ready(pairs: Sequence[Pair], version: str) -> str:
    """Returns why this process can't run trials of these pairs, nothing if it can."""
    if tfprune.__version__ != version:
        return f"it has tfprune {tfprune.__version__}, where {version} is needed"
    try:
        for pair in pairs:
            _splits(pair)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def check(trial: Trial, baseline: Baseline) -> None:
    """Checks that the operating point of a trial can be met on its network.

    Raises:
      ValueError: if not, with the nearest that can be.
    """
    if trial.point > 1:
        model = baseline.model()
        words = _words(trial, model) | {"criterion": "random", "allocation": "global"}
        Recipe.of(trial.target, **words).bind(model).check()


def run(trial: Trial, baseline: Baseline, origin: Mapping[str, object] | None = None) -> Record:
    """Returns what was measured in a trial, see docs/records.md.

    Args:
      trial: what to do.
      baseline: the dense network.
      origin: of a replay the record of the trial that is replayed.

    Raises:
      ValueError: if the network can't be pruned so, or its loss becomes NaN.
    """
    start = time.monotonic()
    _reset(trial.seed)
    splits, dense = _splits(trial.pair), baseline.model()
    model, made = _made(trial, dense, splits, origin)
    tfprune.reestimate_batchnorm(model, splits.shuffled(trial.seed))
    judged = tfprune.measure(model, data=splits.test)
    base = baseline.record
    record = about(trial, baseline) | made
    record |= {f"pruned_{key}": value for key, value in judged.items()}
    by_channel = trial.granularity == "channel"
    return record | {
        "status": "ok",
        "protected": list(_words(trial, dense)["protect"]),
        "pruned_val_top1": _on_validation(model, splits),
        "sparsity": judged["sparsity"],
        "entropy_bytes": judged["entropy_bytes"],
        "compression_ratio": base["base_params"] / judged["nonzero_params"],
        "theoretical_speedup": base["base_macs"] / max(judged["nonzero_macs"], 1),
        "tflite": _files(trial, model, splits, baseline),
        "layers": facts.layers(model),
        "channels": facts.channels(dense, model) if by_channel else [],
        "seconds_total": round(time.monotonic() - start, 1),
        **records.environment(),
    }


def about(trial: Trial, baseline: Baseline) -> Record:
    """Returns the part of a record that is known before the trial is run."""
    pair, method = trial.pair, trial.method
    return {
        "schema": records.SCHEMA,
        "kind": "trial",
        "run_id": trial.id,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "protocol": trial.protocol,
        "dataset": pair.dataset_name,
        "model": pair.model_name,
        "method": method.name,
        "criterion": method.criterion or None,
        "allocation": method.allocation or None,
        "correction": method.correction,
        "granularity": trial.granularity,
        "control": trial.control,
        "replays": method.replays or None,
        "axis": trial.axis,
        "point": trial.point,
        "seed": trial.seed,
        "batch_size": pair.batch_size,
        "optimizer": pair.optimizer,
        "learning_rate": trial.learning_rate,
        "augment": pair.augment,
        "calibration_samples": trial.calibration_samples,
        "selection": "last",
        **baseline.record,
    }


def _made(
    trial: Trial, dense: keras.Model, splits: data.Splits, origin: Mapping[str, object] | None
) -> tuple[keras.Model, Record]:
    """Returns the pruned and fine-tuned model, and how it came about."""
    start, method = time.monotonic(), trial.method
    epochs, rate = trial.epochs, trial.learning_rate
    known: Record = {}
    if method.special in methods.TFMOT:
        from tfprune.evaluation import tfmot

        model = tfmot.tuned(
            dense,
            trial.target,
            protect=_words(trial, dense)["protect"],
            train=splits.shuffled(trial.seed),
            data=_arguments(trial.pair),
            seed=trial.seed,
            steps=_steps(epochs, splits),
            learning_rate=rate,
            optimizer=trial.pair.optimizer,
            schedule=methods.TFMOT[method.special],
        )
        pruned = start
    else:
        model = _pruned(trial, dense, splits, origin)
        if method.special == methods.SCRATCH:
            model = _fresh(model, trial.seed)
            epochs, rate = trial.scratch_epochs, trial.pair.train_learning_rate
        else:
            known["untuned_top1"] = _on_validation(model, splits)
        pruned = time.monotonic()
        _tune(model, splits, trial.pair, epochs=epochs, learning_rate=rate, seed=trial.seed)
    return model, known | {
        "epochs": epochs,
        "steps": _steps(epochs, splits),
        "learning_rate": rate,
        "preprocess": {
            key: list(x) if isinstance(x, tuple) else x
            for key, x in dataclasses.asdict(splits.preprocess).items()
        },
        "seconds_prune": round(pruned - start, 1),
        "seconds_finetune": round(time.monotonic() - pruned, 1),
    }


def _pruned(
    trial: Trial, dense: keras.Model, splits: data.Splits, origin: Mapping[str, object] | None
) -> keras.Model:
    """Returns the network as it is before fine-tuning: with masks, or without its channels."""
    method = trial.method
    if method.special == methods.DENSE:
        return dense
    words = _words(trial, dense)
    if method.special == methods.SCRATCH:
        words |= {"criterion": "l1", "allocation": "uniform"}  # as methods.SHAPED_BY has it
    elif method.replays:
        words |= {"criterion": method.criterion, "allocation": replay.of(origin)}
    else:
        words |= {"criterion": method.criterion, "allocation": method.allocation}
    some = splits.calibration(trial.calibration_samples, trial.seed)
    pruned = tfprune.prune(
        dense, trial.target, correction=method.correction, data=some, seed=trial.seed, **words
    )
    return tfprune.shrink(pruned) if trial.granularity == "channel" else pruned


def _words(trial: Trial, model: keras.Model) -> dict[str, object]:
    """Returns what all methods of a grid have in common of the words of `tfprune.prune`."""
    protect = trial.protect
    if protect is None:  # the classifier is what comes last
        protect = (k.find(model)[0][-1].layer.name,)
    return {"granularity": trial.granularity, "protect": protect}


def _fresh(model: keras.Model, seed: int) -> keras.Model:
    """Returns a network of the same shape with random weights."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def _tune(
    model: keras.Model,
    splits: data.Splits,
    pair: Pair,
    *,
    epochs: float,
    learning_rate: float,
    seed: int,
) -> None:
    tuning.tune(
        model,
        splits.shuffled(seed),
        steps=_steps(epochs, splits),
        learning_rate=learning_rate,
        optimizer=pair.optimizer,
    )


def _steps(epochs: float, splits: data.Splits) -> int:
    return round(epochs * len(splits.train))


def _files(
    trial: Trial, model: keras.Model, splits: data.Splits, baseline: Baseline
) -> list[Record]:
    """Returns what is known of the model's TFLite files, each checked and timed."""
    if not trial.variants:
        return []
    with tempfile.TemporaryDirectory() as folder:
        beside = pathlib.Path(folder, "dense.tflite")
        beside.write_bytes(baseline.tflite)
        table = tfprune.export(
            model,
            folder,
            variants=trial.variants,
            baseline=beside if baseline.tflite else None,
            calibration=splits.train_plain,
            evaluation=_some(splits, trial.verify_samples),
        )
    return json.loads(table.to_json(orient="records", double_precision=15))


def _some(splits: data.Splits, count: int) -> tf.data.Dataset:
    """Returns test examples, evenly spaced, since they may be stored class by class."""
    every = max(splits.sizes["test"] // count, 1)
    return splits.test.unbatch().shard(every, 0).take(count).batch(100)


def _on_validation(model: keras.Model, splits: data.Splits) -> float:
    return accuracy.evaluate(model, splits.validation)["top1"]


# A process has trials of few pairs at a time, and reading a data set may take longer than a trial.
@functools.lru_cache(maxsize=2)
def _splits(pair: Pair) -> data.Splits:
    return data.load(**_arguments(pair))


def _arguments(pair: Pair) -> dict[str, object]:
    """Returns what `tfprune.data.load` takes."""
    same = ("data_dir", "preprocess", "batch_size", "augment", "image_size")
    return {"name": pair.dataset} | {key: getattr(pair, key) for key in same}


def _reset(seed: int) -> None:
    """Makes what follows the same at every run with this seed, whatever ran before."""
    keras.backend.clear_session()  # the graphs of earlier trials
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
