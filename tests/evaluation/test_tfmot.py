"""TFMOT under our protocol: what its process is given is ours, bit for bit, and what comes back."""

import os
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest

import tfprune
from tfprune import data, schedules, zoo
from tfprune.evaluation import _tfmot_worker as worker
from tfprune.evaluation import tfmot, tuning
from tfprune.graph import kernels as k
from tfprune.targets import Target

L = keras.layers
DATA = {"name": "digits", "preprocess": "symmetric", "batch_size": 32, "augment": "crop(pad=1)"}


def network():
    """What an optimizer, a loss and a graph can differ in: batch norm, decay, a shortcut."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1))
    y = L.Conv2D(12, 3, padding="same", use_bias=False, kernel_regularizer="l2", name="first")(x)
    y = L.ReLU(6.0)(L.BatchNormalization(momentum=0.9)(y))
    z = L.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    z = L.BatchNormalization()(L.SeparableConv2D(12, 3, padding="same", name="separable")(z))
    y = L.Activation("relu")(L.Add()([y, z]))
    y = L.Conv2D(16, 3, name="second")(L.MaxPooling2D()(L.ZeroPadding2D(1)(y)))
    y = L.GlobalAveragePooling2D()(y)
    return keras.Model(x, L.Dense(10, name="head")(y), name="net")


def tiny():
    keras.utils.set_random_seed(0)
    body = [L.Conv2D(12, 5, activation="relu", name="conv"), L.GlobalAveragePooling2D()]
    return keras.Sequential([keras.Input((8, 8, 1)), *body, L.Dense(10, name="head")])


def tuned(model, target="compression:3", *, seed=1, steps=12, rate=0.01, order=None, **changed):
    settings = {"learning_rate": rate, "optimizer": "sgd", "protect": ["head"], "data": DATA}
    train = data.load(**DATA).shuffled(seed if order is None else order)
    return tfmot.tuned(model, target, train=train, seed=seed, steps=steps, **settings | changed)


@pytest.fixture
def here(monkeypatch):
    """Does the work of TFMOT's process in this one, which saves its start."""
    monkeypatch.setattr(tfmot, "_run", lambda command, errors: worker.run(errors.parent))
    schedules.tfmot_schedules()  # leaves no mark on the environment of later tests


def zeros(model):
    return {x.name: x.read() == 0 for x in k.find(model)[0]}


def compression(model):
    total = k.parameters(model)
    return total / (total - sum(int(x.sum()) for x in zeros(model).values()))


def test_its_masks_are_ours_and_so_is_its_training(here):
    """TFMOT's one-shot pruning is magnitude/uniform: same masks, same weights after training."""
    model = network()
    before = model.get_weights()
    theirs = tuned(model)
    # TFMOT leaves what is depthwise dense, in a separable convolution too
    left = ["head", "depthwise", "separable/depthwise_kernel"]
    pruned = [x for x in k.find(model)[0] if x.layer.name not in left and x.name not in left]
    total, free = k.parameters(model), sum(x.size for x in pruned)
    level = (total - total / 3) / free
    ours = tfprune.prune(model, Target("sparsity", level), allocation="uniform", protect=left)
    expected = zeros(ours)
    train = data.load(**DATA).shuffled(1)
    tuning.tune(ours, train, steps=12, learning_rate=0.01, optimizer="sgd")

    for name, zero in zeros(theirs).items():
        np.testing.assert_array_equal(zero, expected[name], err_msg=name)
    removed = sum(int(zero.sum()) for zero in expected.values())
    assert removed == pytest.approx(total - total / 3, abs=0.5 * len(pruned) + 1e-6)
    assert compression(theirs) == pytest.approx(3, rel=0.01)
    for old, a, b in zip(before, theirs.get_weights(), ours.get_weights(), strict=True):
        assert not np.signbit(a[a == 0]).any()
        moved = np.abs(b - old)[b != 0].max()
        assert np.abs(a - b).max() <= 0.01 * moved > 0
    for old, value in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, value)


def test_in_a_process_of_its_own():
    environment, model = dict(os.environ), tiny()
    pruned = tuned(model, steps=3, optimizer="adam")
    assert os.environ == environment
    assert compression(pruned) == pytest.approx(3, rel=0.01)
    assert pruned.get_layer("head").kernel.numpy().all()
    # Adam's first steps are as long as its rate
    moved = pruned.get_layer("head").kernel - model.get_layer("head").kernel
    assert 0.01 < np.abs(moved).max() < 0.03


def test_a_growing_sparsity_ends_where_it_should(here):
    assert compression(tuned(tiny(), steps=7, schedule="polynomial")) == pytest.approx(3, rel=0.01)


def test_a_growing_sparsity_takes_half_of_the_steps():
    """s(t) = s (1 - (1 - t / T)^3) of Zhu & Gupta 2017 (arXiv 1710.01878)."""
    said = {"sparsity": 0.8, "steps": 600, "schedule": "polynomial"}
    schedule = worker._schedule(said, schedules.tfmot_schedules())
    updates = {step - 1: float(schedule(step)[1]) for step in range(601) if schedule(step)[0]}
    assert list(updates) == list(range(0, 301, 3))
    for step, sparsity in updates.items():
        assert sparsity == pytest.approx(0.8 * (1 - (1 - step / 300) ** 3), abs=1e-6)


def test_without_training_only_zeros_are_new(here):
    model = tiny()
    pruned = tuned(model, steps=0)
    assert compression(pruned) == pytest.approx(3, rel=0.01)
    for a, b in zip(pruned.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, np.where(a == 0, 0, b))


def carried(model):
    """Returns `model` as tf-keras has it."""
    schedules.tfmot_schedules()
    import tf_keras

    architecture = tfmot.architecture(model)
    copy = tf_keras.Model.from_config(architecture)
    worker.fill(
        [copy.get_layer(layer["name"]) for layer in architecture["layers"]], model.get_weights()
    )
    return copy


def agree(model):
    from tests.surgeons import error, inputs, randomise

    randomise(model)
    x = inputs(model)
    assert error(model(x, training=False), carried(model)(x, training=False).numpy()) <= 1e-5


NETWORKS = ["digits_cnn", "ds_cnn", "lenet5", "mobilenet_v2(width=0.25)", "resnet20"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo_are_the_same_in_tf_keras(name):
    agree(zoo.build(name))


def test_layers_of_every_kind_are_the_same_in_tf_keras():
    x = keras.Input((8, 8, 4), name="image")
    shortcut = L.Conv2D(6, 3, strides=2, groups=2, dilation_rate=1, padding="same")(x)
    y = L.SpatialDropout2D(0.1)(L.PReLU(shared_axes=(1, 2))(L.Rescaling(0.5, 0.1)(x)))
    y = L.AveragePooling2D(2, padding="same")(L.SeparableConv2D(6, 3, padding="same")(y))
    merged = [L.ELU()(y), shortcut]
    kinds = (L.Add, L.Average, L.Maximum, L.Minimum, L.Multiply, L.Subtract)
    y = L.Concatenate()([kind()(merged) for kind in kinds])
    y = L.UpSampling2D()(L.Cropping2D(1)(L.ZeroPadding2D(((1, 2), (0, 1)))(y)))
    ends = [L.GlobalAveragePooling2D()(y), L.GlobalMaxPooling2D()(y)]
    z = L.Conv1D(8, 3, padding="causal")(L.Permute((2, 1))(L.Reshape((-1, 36))(y)))
    ends += [L.GlobalMaxPooling1D()(L.MaxPooling1D()(z))]
    ends += [L.GlobalAveragePooling1D()(L.AveragePooling1D(2)(z))]
    kept = L.GlobalAveragePooling2D(keepdims=True)(y)
    y = L.Concatenate()([*ends, L.Flatten()(kept)])
    model = keras.Model(x, L.Softmax()(L.Dense(5)(L.Dropout(0.5)(y))))
    agree(model)
    assert {type(layer).__name__ for layer in model.layers} >= set(tfmot._LAYERS) - {
        *("Activation", "BatchNormalization", "DepthwiseConv2D", "MaxPooling2D", "ReLU")
    }


def test_a_sequential_model_and_a_shared_layer():
    agree(keras.Sequential([keras.Input((8,)), L.Dense(4, "relu"), L.Dense(3)]))
    x = keras.Input((8,))
    twice = L.Dense(8, activation="tanh")
    agree(keras.Model(x, L.Add()([twice(twice(x)), x])))


def test_the_trained_networks(shared):
    for name in ("mlperf_tiny/pretrainedResnet.h5", "cifar10_resnet/resnet.h5"):
        model = tfprune.load_model(shared / "models" / name)
        x = np.random.default_rng(0).normal(0, 50, (4, 32, 32, 3)).astype("float32")
        np.testing.assert_allclose(carried(model)(x), model(x, training=False), atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Dense(L.Dense):
    """A layer of the user's with the name of one of Keras's."""


@keras.saving.register_keras_serializable("tests")
def decay(weights):
    return keras.ops.sum(weights)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Dense(4, name="mine"), "'mine' (Dense) can't be carried over"),
        (L.GaussianNoise(0.1, name="noisy"), "'noisy' (GaussianNoise)"),
        (lambda x: x + 1.0, "(Add) can't be carried over"),
        (L.Dense(4, dtype="mixed_float16", name="half"), "'half' computes in mixed_"),
        (L.Dense(4, kernel_regularizer=decay, name="own"), "'own' uses "),
    ],
)
def test_what_tf_keras_does_not_have_is_named(layer, said):
    x = keras.Input((8,))
    model = keras.Model(x, L.Dense(10, name="head")(layer(x)))
    with pytest.raises(ValueError, match=r"tf-keras|float32") as caught:
        tfmot.architecture(model)
    assert said in str(caught.value)


def test_a_subclassed_model_is_refused():
    from tests.models import subclassed

    with pytest.raises(ValueError, match="functional or sequential"):
        tfmot.architecture(subclassed())


def test_other_batches_are_noticed(here):
    with pytest.raises(ValueError, match="first batch is another"):
        tuned(tiny(), seed=1, order=2)


def test_a_model_that_computes_otherwise_is_noticed(here, monkeypatch):
    monkeypatch.setattr(worker, "weights", lambda arrays: list(tiny().get_weights()))
    model = tiny()
    model.get_layer("head").bias.assign(np.full(10, 0.1))
    with pytest.raises(ValueError, match="returns something else"):
        tuned(model)


def test_a_loss_that_is_not_finite(here):
    with pytest.raises(ValueError, match="lower the learning rate"):
        tuned(tiny(), rate=1e30, steps=4)


def test_bad_words_before_a_process_is_started(monkeypatch):
    monkeypatch.setattr(tfmot, "_run", None)
    with pytest.raises(ValueError, match="Did you mean polynomial"):
        tuned(network(), schedule="polynomal")
    with pytest.raises(ValueError, match="can't be met"):
        tuned(network(), "compression:1000")


def python(code, folder):
    tfmot._run([sys.executable, "-c", code], folder / "stderr")


def test_a_failure_is_told_with_its_traceback(tmp_path):
    with pytest.raises(RuntimeError, match="process failed: ValueError: no such thing") as caught:
        python("def f(): raise ValueError('no such thing')\nf()", tmp_path)
    assert caught.value.__notes__[0].startswith("Traceback")
    with pytest.raises(RuntimeError, match="killed by SIGKILL"):
        python("import os; os.kill(os.getpid(), 9)", tmp_path)


def test_ctrl_c_leaves_no_process(tmp_path):
    mark = tmp_path / "pid"
    code = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
        f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )

    def interrupt():
        while not (mark.exists() and mark.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            python(code, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


def test_it_ends_when_its_caller_is_gone():
    code = (
        "import time; from tfprune.evaluation import _tfmot_worker as w; w.end_with_caller(); "
        "print('there', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"there\n"
        process.stdin.close()  # as the system does for a caller that was killed
        assert process.wait(timeout=20) == 1
