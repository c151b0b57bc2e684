r"""Sizes of a network pruned and with shared weights, as TFLite files, beside TFMOT's clustering.

  python tools/bench_sharing.py --model=resnet8.h5 --dataset=cifar10 --data_dir=... --epochs=1
  python tools/bench_sharing.py --model=MobileNetV2

A model's file is pruned, fine-tuned, clustered and fine-tuned again, and judged on the test split.
A network of keras.applications has random weights (of its initialisers) and no data: its sizes
only. TFMOT gets the pruned and fine-tuned weights, in tf-keras and in a process of its own, and
clusters them with its sparsity preserved; it leaves depthwise kernels as they are.

"Huffman" and "entropy" are the constants in the file, coded with Huffman's code or ideally, "of the
weights" the ideal size of what Keras holds, with codebooks: see tfprune/measurement/entropy.py.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from absl import app, flags

flags.DEFINE_string(
    "model", None, "A model's file, or a name of keras.applications.", required=True
)
flags.DEFINE_string("dataset", "cifar10", "As in pipelines.prune.")
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps its data.")
flags.DEFINE_string("preprocess", "raw", "As in pipelines.prune.")
flags.DEFINE_string("augment", "flip_crop", "As in pipelines.prune.")
flags.DEFINE_float("sparsity", 0.8, "Share of the kernels' weights that are pruned.")
flags.DEFINE_integer("clusters", 16, "Values a kernel.")
flags.DEFINE_string("per", "tensor", "What has a codebook: tensor or channel; TFMOT too.")
flags.DEFINE_integer("epochs", 1, "Of fine-tuning, after pruning and after clustering.")
flags.DEFINE_float("learning_rate", 1e-4, "Of Adam.")
flags.DEFINE_integer("batch", 64, "Examples in a batch.")
flags.DEFINE_integer("train_samples", None, "Training images; all by default.")
flags.DEFINE_integer("eval_samples", None, "Test images; all by default.")
flags.DEFINE_enum("side", "both", ["both", "tfprune", "tfmot"], "What to measure.")
flags.DEFINE_string(
    "folder", None, "Where the sides leave what they share; a temporary one if None."
)
FLAGS = flags.FLAGS

_SIZE = 96  # of the input of keras.applications


def is_file() -> bool:
    """Returns whether the model is a trained one, with data."""
    return pathlib.Path(FLAGS.model).suffix in (".h5", ".keras")


def row(what: str, weights: list[np.ndarray], kind: str, content: bytes, data: tuple) -> None:
    """Prints sizes and accuracy of one file."""
    from tfprune.measurement import entropy, runtime, size

    inputs, labels = data
    path = pathlib.Path(FLAGS.folder, "model.tflite")
    path.write_bytes(content)
    packed, coded = size.file_size(path)["gzip_bytes"], entropy.of_file(path)
    ideal = sum(entropy.coded(w).entropy_bytes for w in weights)
    top1 = "-"
    if labels is not None:
        found = runtime.run(path, inputs, runs=1, warmup=0, min_seconds=0, timeout=600)
        top1 = f"{100 * np.mean(found['outputs'][0].argmax(-1) == labels):.2f}"
    print(
        f"| {what} | {kind} | {packed:,} | {coded.huffman_bytes:,} | {coded.entropy_bytes:,} "
        f"| {packed / coded.entropy_bytes:.2f} | {ideal:,} | {top1} |",
        flush=True,
    )


def load() -> tuple:
    """Returns training data, calibration inputs, test inputs and labels; random ones without."""
    import keras

    import tfprune

    if not is_file():
        inputs = np.random.default_rng(0).normal(size=(32, _SIZE, _SIZE, 3)).astype("float32")
        return None, inputs, inputs, None
    splits = tfprune.data.load(
        FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        preprocess=FLAGS.preprocess,
        batch_size=FLAGS.batch,
        augment=FLAGS.augment,
    )
    train = splits.train
    if FLAGS.train_samples:
        train = train.take(-(-FLAGS.train_samples // FLAGS.batch))
    parts = list(splits.test.unbatch().take(FLAGS.eval_samples or -1).batch(1000))
    x, y = (np.concatenate([np.asarray(part[i]) for part in parts]) for i in (0, 1))
    calibration = [keras.tree.flatten(batch)[0] for batch in splits.calibration(200, 0)]
    return train, np.concatenate([np.asarray(b, "float32") for b in calibration]), x, y


def tfprune_side() -> None:
    """Prints the rows of tfprune, and leaves the pruned weights for TFMOT."""
    import keras

    import tfprune
    from tfprune.tflite import convert
    from tfprune.tflite.variants import VARIANTS

    train, calibration, *data = load()
    dense = (
        tfprune.load_model(FLAGS.model)
        if is_file()
        else getattr(keras.applications, FLAGS.model)(input_shape=(_SIZE, _SIZE, 3), weights=None)
    )

    def report(what: str, model: keras.Model) -> None:
        traced = convert.trace(model, calibration)
        for kind in ("float32", "int8"):
            content = convert.convert(traced, VARIANTS[kind], [calibration])
            row(what, model.get_weights(), kind, content, data)

    def tune(model: keras.Model, *callbacks: keras.callbacks.Callback) -> None:
        model.compile(keras.optimizers.Adam(FLAGS.learning_rate), "sparse_categorical_crossentropy")
        model.fit(train, epochs=FLAGS.epochs, verbose=0, callbacks=list(callbacks))

    report("dense", dense)
    pruned = tfprune.prune(dense, f"sparsity:{FLAGS.sparsity}")
    if train is not None:
        tune(pruned)
    report("pruned", pruned)
    np.savez(pathlib.Path(FLAGS.folder, "pruned.npz"), *pruned.get_weights())
    words = {"n_clusters": FLAGS.clusters, "per": FLAGS.per}
    clustered = tfprune.cluster_weights(pruned, **words)
    report("clustered", clustered)
    if train is not None:
        tune(clustered, tfprune.WeightSharing(**words))
        report("clustered, fine-tuned", clustered)


def tfmot_side() -> None:
    """Prints the rows of TFMOT, of the weights that the other side pruned."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster

    from tfprune.tflite import convert

    train, calibration, *data = load()
    dense = (
        tf_keras.models.load_model(FLAGS.model, compile=False)
        if is_file()
        else getattr(tf_keras.applications, FLAGS.model)(
            input_shape=(_SIZE, _SIZE, 3), weights=None
        )
    )
    stored = np.load(pathlib.Path(FLAGS.folder, "pruned.npz"))
    dense.set_weights([stored[name] for name in stored.files])

    def report(what: str, model: tf_keras.Model) -> None:
        for kind in ("float32", "int8"):
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            if kind == "int8":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.representative_dataset = lambda: ([x[None]] for x in calibration)
            with convert.quiet([]):
                content = converter.convert()
            row(what, model.get_weights(), kind, content, data)

    report("pruned, in tf-keras", dense)
    wrapped = cluster.cluster_weights(
        dense,
        number_of_clusters=FLAGS.clusters,
        cluster_centroids_init=tfmot.clustering.keras.CentroidInitialization.LINEAR,
        preserve_sparsity=True,
        cluster_per_channel=FLAGS.per == "channel",
    )
    strip = tfmot.clustering.keras.strip_clustering
    report("TFMOT's clustering", strip(wrapped))
    if train is not None:
        adam = tf_keras.optimizers.legacy.Adam(FLAGS.learning_rate)
        wrapped.compile(adam, "sparse_categorical_crossentropy")
        wrapped.fit(train, epochs=FLAGS.epochs, verbose=0)
        report("TFMOT's, fine-tuned", strip(wrapped))


def _main(argv: list[str]) -> None:
    if FLAGS.side != "both":
        {"tfprune": tfprune_side, "tfmot": tfmot_side}[FLAGS.side]()
        return
    heads = ("weights", "file", "gzip, bytes", "Huffman", "entropy", "gzip / entropy")
    print("|", " | ".join((*heads, "of the weights", "top-1, %")), "|")
    print("|---" * 8 + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for side in ("tfprune", "tfmot"):
            subprocess.run(
                [sys.executable, argv[0], *sys.argv[1:], f"--side={side}", f"--folder={folder}"],
                check=True,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
            )


if __name__ == "__main__":
    app.run(_main)
