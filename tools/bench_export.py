"""Every TFLite variant of pruned networks on this machine and on emulated Arm.

  python tools/bench_export.py --models=../shared/models --data_dir=../shared/data/tfds

Single weights are pruned at once by magnitude, and batch-norm statistics estimated again. Networks
without trained weights see --train_steps batches of CIFAR-10 before, of which only 1x1 convolutions
are pruned, and half as many again after: enough for outputs that mean something, not for an
accuracy that does. All are judged on CIFAR-10 test images, the wake word on noise. Each file takes
turns with the float32 file of the pruned weights, which is as fast as the dense network's; that
ratio is the one that is shown, for an emulated device from three runs.
"""

import pathlib
import tempfile

import numpy as np
from absl import app, flags

flags.DEFINE_string("models", None, "Folder of trained models; without it they are left out.")
flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps CIFAR-10.")
flags.DEFINE_list(
    "networks",
    ["resnet8", "resnet32", "mobilenet_v1", "mobilenet_v2", "wake_word", "MobileNetV3Small"],
    "Which to export.",
)
flags.DEFINE_float("sparsity", 0.9, "Of the weights that are pruned.")
flags.DEFINE_list("devices", ["local", "arm64"], "As of pipelines.export.")
flags.DEFINE_list("variants", ["all"], "As of pipelines.export.")
flags.DEFINE_integer("samples", 1000, "Test images.")
flags.DEFINE_integer("device_samples", 4, "Of these, on devices other than this machine.")
flags.DEFINE_integer("train_steps", 200, "Of networks without trained weights.")
flags.DEFINE_boolean("prepare", False, "Rewrites networks for XNNPACK's sparse kernels first.")
FLAGS = flags.FLAGS

_FILES = {
    "resnet8": ("mlperf_tiny/pretrainedResnet.h5", "raw"),
    "resnet32": (
        "cifar10_resnet/resnet.h5",
        "mean_std((125.307, 122.95, 113.865), (62.9932, 62.0887, 66.7048))",
    ),
    "wake_word": ("mlperf_tiny/keyword_spotting/str_ww_ref_model.h5", None),
}


def network(name: str) -> tuple:
    """Returns a model, its test data (x, y or None), calibration inputs and training batches."""
    import tfprune

    if name == "wake_word":
        model = tfprune.load_model(pathlib.Path(FLAGS.models, _FILES[name][0]))
        x = np.random.default_rng(0).normal(size=(FLAGS.samples, *model.input_shape[1:]))
        return model, (x.astype("float32"), None), x[:200].astype("float32"), None
    size = None if name in _FILES else 96
    # MobileNetV3 of keras.applications scales its inputs itself.
    plain = "raw" if name.startswith("MobileNetV3") else "symmetric"
    file, preprocess = _FILES.get(name, (None, plain))
    splits = tfprune.data.load(
        "cifar10", data_dir=FLAGS.data_dir, preprocess=preprocess, image_size=size, batch_size=100
    )
    test = splits.test.take(max(1, FLAGS.samples // 100)).unbatch().batch(100)
    parts = list(test.as_numpy_iterator())
    x, y = (np.concatenate(column) for column in zip(*parts, strict=True))
    calibration = np.concatenate(
        [batch for batch, _ in splits.train_plain.take(3).as_numpy_iterator()]
    )
    if file:
        return tfprune.load_model(pathlib.Path(FLAGS.models, file)), (x, y), calibration, None
    return tfprune.zoo.resolve(name, (96, 96, 3), 10), (x, y), calibration, splits.train


def fit(model: object, train: object, steps: int) -> None:
    """Trains a model that comes without weights for so many batches."""
    if train is None or not steps:
        return
    logits = model.layers[-1].get_config().get("activation") == "linear"
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    model.compile(keras.optimizers.Adam(2e-3), loss)
    model.fit(train, steps_per_epoch=steps, verbose=0)


def _all_but_pointwise(model: object) -> list[str]:
    """Returns the names of layers with kernels that are no 1x1 convolutions."""
    from tfprune.graph import kernels

    found, _ = kernels.find(model)
    return [x.layer.name for x in found if tuple(x.variable.shape)[:-2] != (1, 1)]


def export(name: str) -> None:
    """Prints a row for each variant."""
    import keras

    import tfprune
    from tfprune.tflite.variants import VARIANTS

    model, (x, y), calibration, train = network(name)
    if FLAGS.prepare:
        model = tfprune.prepare_for_sparse_inference(model)
    fit(model, train, FLAGS.train_steps)
    model = tfprune.prune(
        model,
        f"sparsity:{FLAGS.sparsity}",
        allocation="uniform" if train else "erk",
        protect=_all_but_pointwise(model) if train else (),
    )
    fit(model, train, FLAGS.train_steps // 2)
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        tfprune.reestimate_batchnorm(model, calibration)
    with tempfile.TemporaryDirectory() as folder:
        table = tfprune.export(
            model,
            folder,
            variants=VARIANTS if FLAGS.variants == ["all"] else FLAGS.variants,
            devices=FLAGS.devices,
            calibration=calibration,
            evaluation=(x,) if y is None else (x, y),
            device_samples=FLAGS.device_samples,
        )
    first = FLAGS.devices[0]
    for row in table[table["device"] == first].itertuples():
        others = table[(table["variant"] == row.variant) & (table["device"] != first)]
        cells = [name, row.variant]
        if row.status == "ok":
            cells += [
                f"{row.bytes / 1000:,.1f}",
                f"{row.gzip_bytes / 1000:,.1f}",
                f"{row.gzip_bytes / row.entropy_bytes:.2f}",
                f"{100 * row.top1_agreement:.1f}",
                f"{100 * row.top1:.1f}" if y is not None else "",
                f"{row.latency_ms_median:.3f}",
                f"{row.latency_ratio:.2f}",
                *(f"{ratio:.2f}" for ratio in others["latency_ratio"]),
                *others["sparse_kernels"].astype(str),
            ]
        else:
            cells += [f"{row.status}: {row.reason}"] + [""] * (5 + 2 * len(FLAGS.devices))
        print(f"| {' | '.join(cells)} |", flush=True)


def main(_: list[str]) -> None:
    """Prints a table."""
    ratios = [f"ratio {device}" for device in FLAGS.devices]
    head = ["network", "variant", "kB", "gzip kB", "gzip / entropy", "agreement", "top-1"]
    head += ["ms", *ratios, *(f"sparse kernels {device}" for device in FLAGS.devices[1:])]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for name in FLAGS.networks:
        if name in _FILES and not FLAGS.models:
            continue
        export(name)


if __name__ == "__main__":
    app.run(main)
