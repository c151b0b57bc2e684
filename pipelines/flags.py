"""The flags that pipelines share. Nothing heavy is imported: `--help` answers at once."""

from absl import flags

from tfprune import registry, schedules, sparse_training, targets, zoo
from tfprune.codebooks import INITIALISATIONS
from tfprune.evaluation.grid import PROTOCOLS
from tfprune.evaluation.methods import CONTROLS
from tfprune.evaluation.records import AXES
from tfprune.tflite import variants
from tfprune.tflite.recommend import OPTIMIZE

FLAGS = flags.FLAGS


def _names(package: str) -> str:
    return ", ".join(sorted(registry.names(package)))


flags.DEFINE_string("output_dir", None, "Where the run's files go: a new or an empty directory.")
flags.DEFINE_boolean(
    "resume",
    None,
    "Goes on with a run that was stopped, and is an error where there is none; --noresume is an "
    "error where there is one. By default what is there is gone on with.",
)
flags.DEFINE_integer("seed", 0, "Of initial weights, order of examples, and random scores.")

flags.DEFINE_string(
    "dataset",
    "digits",
    "digits (bundled), an image-classification data set of TensorFlow Datasets such as cifar10, a "
    ".npz file with x_train, y_train, x_test, y_test, or a directory of class folders.",
)
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps, or puts, its data.")
flags.DEFINE_string(
    "preprocess",
    "unit",
    "raw, unit (0 to 1), symmetric (-1 to 1), standardize, or given means and deviations per "
    'channel: "mean_std((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))".',
)
flags.DEFINE_string("augment", "none", "none, flip, crop, flip_crop; crop(pad=2) for 2 pixels.")
flags.DEFINE_integer("image_size", None, "Resizes images to this height and width.", lower_bound=1)
flags.DEFINE_integer("batch_size", 64, "Examples in a training batch.", lower_bound=1)

flags.DEFINE_string(
    "model",
    "digits_cnn",
    f"{', '.join(zoo.names())}, each with options in brackets such as mobilenet_v2(width=0.5); a "
    "name of keras.applications; a .keras or .h5 file; or package.module:function.",
)
flags.DEFINE_integer(
    "train_epochs",
    None,
    "Epochs of training before pruning; by default 30, and none for a model from a file.",
    lower_bound=0,
)
flags.DEFINE_float(
    "train_learning_rate",
    2e-3,
    "Of Adam when training; it falls to 0 along a cosine.",
    lower_bound=0.0,
)

SPARSIFY = ("growing_l2", "group_lasso", "bn_l1", "soft", "centripetal")

CORRECTIONS = ("own", "least_squares", "merge", "none")

SCORING = {
    "criterion": ("magnitude", f"How much a unit matters: {_names('tfprune.criteria')}."),
    "granularity": (
        "weight",
        f"What is pruned together: {_names('tfprune.granularity')}; block(h, w) and n_m(n, m) "
        "with their sizes. Of channel, the model is pruned, made smaller, and then fine-tuned; of "
        "all others, zeros are made while it is.",
    ),
}

PRUNING = {
    "target": (
        "sparsity:0.8",
        f"What to reach: {', '.join(k + ':' for k in targets.KINDS)}, "
        "each with a number; or redundant, what a criterion with a threshold or a number of "
        "clusters finds, such as kmeans(clusters=0.5).",
    ),
    "allocation": (
        "global",
        f"How layers share it: {_names('tfprune.allocation')}; sensitivity('runs/scan/"
        "sensitivity.csv') goes by what pipelines.sensitivity measured.",
    ),
    "method": (
        "gradual",
        f"How masks change while it trains: {', '.join(sparse_training.names())}, with options in "
        "brackets such as rigl(drop=0.2) or rewind(to='1ep').",
    ),
    "schedule": (
        None,
        f"When: {', '.join(schedules.names())}, with options in brackets such as iterative(3); by "
        "default polynomial, or the method's own. Channels go in --steps instead.",
    ),
    "begin": (
        None,
        "When pruning begins: an optimizer step, or an epoch such as 2ep; by default at once, or "
        "when the method says.",
    ),
    "end": (
        None,
        "When it ends; by default after three quarters of the fine-tuning, or when the method "
        "says.",
    ),
}


def define_scoring() -> None:
    """Defines the flags that say which units go first, and what becomes of the others."""
    for name, (default, text) in SCORING.items():
        flags.DEFINE_string(name, default, text)
    flags.DEFINE_enum(
        "correction",
        "own",
        CORRECTIONS,
        "What the weights that stay become: what the criterion says, what changes each layer's "
        "output least, (channels) with what read a removed one added to its nearest, or what they "
        "are.",
    )
    flags.DEFINE_list("protect", [], "Names or glob patterns of layers to leave dense.")
    flags.DEFINE_integer(
        "calibration_samples",
        1024,
        "Training examples, as they are, from which scores and corrections are computed.",
        lower_bound=1,
    )


def define_scan() -> None:
    """Defines the flags of a scan of the layers' sensitivity."""
    define_scoring()
    flags.DEFINE_list(
        "sparsities", None, "To which each layer is pruned; by default 0.1 to 0.9, 0.95 and 0.98."
    )
    flags.register_validator("sparsities", _are_shares, "they are shares above 0, up to 1")
    flags.DEFINE_integer(
        "eval_samples", 2000, "Validation examples on which the model is judged.", lower_bound=1
    )
    flags.DEFINE_boolean(
        "layer_ms",
        False,
        "Times each layer alone in LiteRT, for allocation sensitivity(..., cost='ms').",
    )
    _define_threads()


def _define_threads() -> None:
    flags.DEFINE_integer("threads", 1, "Threads of the interpreter that is timed.", lower_bound=1)


def _are_shares(texts: list[str] | None) -> bool:
    try:
        return texts is None or (bool(texts) and all(0 < float(text) <= 1 for text in texts))
    except ValueError:
        return False


def define_pruning() -> None:
    """Defines the flags of pruning, fine-tuning and export."""
    define_scoring()
    for name, (default, text) in PRUNING.items():
        flags.DEFINE_string(name, default, text)
    flags.DEFINE_integer(
        "frequency", None, "Steps between two updates of the masks.", lower_bound=1
    )
    flags.DEFINE_integer(
        "rounds",
        None,
        "Where it is pruned at once: in how many rounds, each of which scores anew; by default "
        "what the criterion says, mostly 1.",
        lower_bound=1,
    )
    flags.DEFINE_integer("min_keep", 1, "Units that each kernel keeps at least.", lower_bound=0)
    flags.DEFINE_float(
        "max_sparsity", 1.0, "Which share of its units each may lose at most.", lower_bound=0.0
    )
    flags.DEFINE_integer("round_to", 1, "Keeps channels in multiples of it.", lower_bound=1)
    flags.DEFINE_integer(
        "steps", 1, "Of channels: prunings, each followed by its share of --epochs.", lower_bound=1
    )
    flags.DEFINE_enum(
        "sparsify",
        "none",
        ["none", *SPARSIFY],
        "Trains before channels are pruned: with a penalty that empties some of them, (soft) "
        "zeroing the lowest after each epoch, or (centripetal) drawing those of a cluster together "
        "until they are the same.",
    )
    flags.DEFINE_integer("sparsify_epochs", 10, "Epochs of it.", lower_bound=1)
    flags.DEFINE_float(
        "sparsify_strength", None, "Of the penalty; each kind has its default.", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "cluster_weights",
        None,
        "After pruning, has each kernel share so many values, zero among them, and fine-tunes "
        "these; by default weights are not shared.",
        lower_bound=2,
    )
    flags.DEFINE_integer("cluster_epochs", 5, "Epochs of it; 0 only shares.", lower_bound=0)
    flags.DEFINE_enum(
        "cluster_initialisation", "linear", [*INITIALISATIONS], "The values k-means begins with."
    )
    flags.DEFINE_enum(
        "cluster_per",
        "tensor",
        ["tensor", "channel"],
        "What shares them: a kernel, or each of its output channels.",
    )
    flags.DEFINE_string(
        "filters_of",
        None,
        "The layer whose filters the report shows, as --granularity=filter or channel leaves them; "
        "by default the one that lost most.",
    )
    flags.DEFINE_string(
        "target_variant", "float32", "The TFLite file that a target in bytes or latency is about."
    )
    flags.DEFINE_boolean(
        "explain",
        False,
        "Only prints which channels of --model go together, what they carry, and which can't go.",
    )
    flags.register_multi_flags_validator(
        ["output_dir", "explain"],
        lambda given: bool(given["output_dir"]) or given["explain"],
        "--output_dir is needed: a directory for the files of this run",
    )
    flags.register_validator(
        "target_variant",
        lambda chosen: chosen in variants.VARIANTS,
        f"it is one of {', '.join(variants.VARIANTS)}",
    )
    flags.DEFINE_integer(
        "epochs",
        20,
        "Epochs of fine-tuning while and after pruning; 0 prunes at once.",
        lower_bound=0,
    )
    flags.DEFINE_float(
        "learning_rate",
        2e-3,
        "Of Adam when fine-tuning; it falls to 0 along a cosine.",
        lower_bound=0.0,
    )
    flags.DEFINE_string(
        "distill",
        None,
        "A teacher while fine-tuning: own, the dense model, or the file of another; by default "
        "labels alone.",
    )
    flags.DEFINE_float("distill_weight", 0.5, "Of the teacher.", lower_bound=0.0, upper_bound=1.0)
    flags.DEFINE_float(
        "distill_temperature",
        4.0,
        "Softens what teacher and model say of the classes.",
        lower_bound=1e-3,
    )
    define_export()
    flags.DEFINE_list(
        "baseline_variants", ["float32", "int8"], "And of the dense model, to compare with."
    )
    flags.register_validator("baseline_variants", _are_variants, _VARIANTS_ARE)


_VARIANTS_ARE = f"they are some of {', '.join(variants.VARIANTS)}"


def _are_variants(chosen: list[str]) -> bool:
    return set(chosen) <= {*variants.VARIANTS, "all"}


def define_export() -> None:
    """Defines the flags of TFLite files: which are made, where they are tried, which is best."""
    flags.DEFINE_list(
        "variants",
        list(variants.DEFAULT),
        f"TFLite files to make: all, or some of {', '.join(variants.VARIANTS)}. Of a model that "
        "lost channels, by default none of the sparse.",
    )
    flags.register_validator("variants", _are_variants, _VARIANTS_ARE)
    _define_devices()
    flags.DEFINE_integer(
        "max_bytes", None, "Recommends a file of at most so many bytes.", lower_bound=1
    )
    flags.DEFINE_float(
        "max_latency_ms", None, "Recommends one of at most this latency.", lower_bound=0.0
    )
    flags.DEFINE_float(
        "min_top1",
        None,
        "Recommends one of at least this top-1, a fraction; by default at most 0.01 below float32.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    flags.DEFINE_enum(
        "optimize",
        None,
        [*OPTIMIZE],
        "Of those, the best in this; by default the least latency x gzip size.",
    )


def define_tflite() -> None:
    """Defines the flags of making TFLite files of any model."""
    define_export()
    flags.DEFINE_boolean(
        "prepare",
        False,
        "First rewrites what keeps XNNPACK from its sparse kernels, where the function stays.",
    )


def define_measuring() -> None:
    """Defines the flags of measuring TFLite files."""
    flags.DEFINE_list("files", None, ".tflite files; the first is what others are compared with.")
    _define_devices()


_LISTS = {
    "methods": (str, "What is compared: criterion, criterion/allocation, base@method, tfmot, ..."),
    "controls": (str, f"Added by themselves; all by default: {', '.join(CONTROLS)}."),
    "points": (float, "Operating points, from 1."),
    "seeds": (int, "Of each trial; 0,1,2 by default."),
    "protect": (str, "Names or glob patterns of layers to leave dense; the classifier by default."),
}


def define_benchmark() -> None:
    """Defines the flags of a grid of trials; what is not given the protocol says."""
    flags.DEFINE_enum(
        "protocol",
        None,
        [*PROTOCOLS],
        "shrinkbench: weights, by compression ratio; structured: channels, by MACs. The first by "
        "default.",
    )
    flags.DEFINE_string("grid", None, "A TOML file with settings and pairs; flags override it.")
    flags.DEFINE_list(
        "pairs", None, "model@dataset, some; by default --model and --dataset, which are one."
    )
    for name, (_, text) in _LISTS.items():
        flags.DEFINE_list(name, None, text)
    flags.DEFINE_list("variants", None, "TFLite files to make of each network, check and time.")
    flags.DEFINE_enum("axis", None, [*AXES], "What operating points count.")
    flags.DEFINE_string("granularity", None, "What is pruned together.")
    flags.DEFINE_string("allocation", None, "Of methods that name none.")
    flags.DEFINE_enum("optimizer", None, ["adam", "sgd"], "Of all training.")
    flags.DEFINE_float("epochs", None, "Of fine-tuning; part of an epoch will do.", lower_bound=0.0)
    flags.DEFINE_float("learning_rate", None, "Of fine-tuning, at its start.", lower_bound=0.0)
    flags.DEFINE_float(
        "scratch_epochs",
        None,
        "Of training from scratch; by default those of the dense network and of fine-tuning.",
        lower_bound=0.0,
    )
    flags.DEFINE_integer(
        "calibration_samples", None, "Training examples that scores come from.", lower_bound=1
    )
    flags.DEFINE_integer(
        "verify_samples", None, "Test examples on which files are checked.", lower_bound=1
    )
    flags.DEFINE_integer(
        "workers", None, "Processes; by default one a core, if memory is enough.", lower_bound=1
    )
    flags.DEFINE_string(
        "scheduler",
        None,
        "Address of a Dask scheduler such as tcp://host:8786, to use its workers.",
    )
    flags.DEFINE_boolean("retry_failed", False, "Runs trials again that failed before.")
    flags.DEFINE_boolean("dry_run", False, "Only prints the trials.")


_OF_PAIRS = ("data_dir", "preprocess", "augment", "image_size", "batch_size", "optimizer")
_OF_PAIRS += ("train_epochs", "train_learning_rate")
_OF_GRIDS = ("protocol", "axis", "granularity", "allocation", "epochs", "learning_rate")
_OF_GRIDS += ("scratch_epochs", "calibration_samples", "verify_samples", "variants")


def benchmark_settings() -> dict[str, object]:
    """Returns what the command line says of a grid, as a grid file would.

    Raises:
      ValueError: for what is no number, or no pair.
    """
    if FLAGS["seed"].present:
        raise ValueError("--seed is of one run: a benchmark has --seeds=0,1,2")
    said = {x: FLAGS[x].value for x in (*_OF_PAIRS, *_OF_GRIDS) if FLAGS[x].present}
    for name, (kind, _) in _LISTS.items():
        if FLAGS[name].present:
            try:
                said[name] = [kind(text) for text in FLAGS[name].value]
            except ValueError as error:
                raise ValueError(f"--{name}: {error}") from None
    if FLAGS.pairs:
        said["pairs"] = [_pair(text) for text in FLAGS.pairs]
    elif not FLAGS.grid:
        said["pairs"] = [{"model": FLAGS.model, "dataset": FLAGS.dataset}]
    return said


def _pair(text: str) -> dict[str, str]:
    model, at, dataset = text.rpartition("@")
    if not at:
        raise ValueError(f"--pairs: {text!r} is no model@dataset, such as resnet8@cifar10")
    return {"model": model, "dataset": dataset}


def _define_devices() -> None:
    """Defines the flags of where files are run and timed, and on what."""
    flags.DEFINE_integer(
        "verify_samples",
        None,
        "Test examples on which TFLite files are compared and judged; all by default.",
        lower_bound=1,
    )
    flags.DEFINE_list(
        "devices",
        ["local"],
        "Where files are tried and timed: local; arm64 and nehalem, emulated; ssh:user@host; "
        "adb:serial.",
    )
    flags.DEFINE_integer(
        "device_samples",
        None,
        "Examples that are run on devices other than local; by default what each has time for.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "benchmark_model", None, "Google's benchmark_model binary for Android, for adb devices."
    )
    flags.DEFINE_string(
        "taskset", None, "Mask of the cores to use on adb devices, in hexadecimal, such as f0."
    )
    flags.DEFINE_string("ssh_python", None, "Python on ssh devices; python3 by default.")
    _define_threads()
    flags.DEFINE_integer("runs", 50, "Inferences that are timed, at least.", lower_bound=1)
