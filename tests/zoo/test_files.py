"""Loading .keras and Keras 2 .h5 files, sound and unsound."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfprune
from tfprune import pruning
from tfprune.zoo import load_model

# Layers whose configs Keras 2 filled with arguments that Keras 3 refuses.
KERAS_2 = """
import sys, numpy as np, tf_keras
L = tf_keras.layers
i = tf_keras.Input((8, 8, 4))
x = L.DepthwiseConv2D(3, depth_multiplier=2)(i)
x = L.SeparableConv2D(6, 3, padding="same")(x)
x = L.Conv2DTranspose(5, 3, strides=2)(x)
x = L.Conv2D(10, 3, groups=5)(x)
x = L.ReLU(6.0)(L.BatchNormalization()(x))
x = L.Reshape((121, 10))(x)
x = L.DepthwiseConv1D(3)(L.SeparableConv1D(8, 3)(x))
x = L.LSTM(4)(L.Conv1DTranspose(4, 3)(x))
model = tf_keras.Model(i, L.Dense(3, activation="softmax")(L.Dropout(0.2)(x)))
model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
x = np.random.default_rng(0).normal(size=(4, 8, 8, 4)).astype("float32")
np.savez(sys.argv[1] + "/expected.npz", x=x, y=model(x))
model.save(sys.argv[1] + "/old.h5")
model.save(sys.argv[1] + "/old.keras")
"""

# Loads without tfprune, and prints the first outputs.
PLAIN_KERAS = """
import sys, numpy as np, keras
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
x = np.load(sys.argv[2])
np.save(sys.argv[3], np.asarray(model(x)))
assert "tfprune" not in sys.modules
"""


def run(code, *args, cwd):
    # Outside the repository, so that tfprune is not even importable by accident.
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras_2")
    run(KERAS_2, folder, cwd=folder)
    return folder


def test_keras_2_h5_computes_what_keras_2_computed(keras_2):
    expected = np.load(keras_2 / "expected.npz")
    model = load_model(keras_2 / "old.h5")
    np.testing.assert_allclose(model(expected["x"]), expected["y"], atol=1e-6)
    assert all(type(x).__module__.startswith("keras.") for x in model.layers)
    assert model.compiled
    assert not isinstance(model.output, list)


def test_keras_2_h5_trains_on_after_it_was_copied(keras_2):
    model = pruning.clone(load_model(keras_2 / "old.h5"))
    x, y = np.load(keras_2 / "expected.npz")["x"], np.eye(3, dtype="float32")[[0, 1, 2, 0]]
    model.run_eagerly = True
    assert "accuracy" in model.fit(x, y, verbose=0).history


def test_keras_2_own_format_names_the_way_out(keras_2):
    with pytest.raises(ValueError, match=r"old\.keras: Keras 2 wrote it: save it as \.h5"):
        load_model(keras_2 / "old.keras")


def test_trained_resnet8_equals_its_tflite_twin(shared):
    from ai_edge_litert.interpreter import Interpreter

    folder = shared / "models/mlperf_tiny"
    model = tfprune.load_model(folder / "pretrainedResnet.h5")
    interpreter = Interpreter(model_path=str(folder / "pretrainedResnet.tflite"))
    interpreter.allocate_tensors()
    images = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype("float32")
    outputs = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    np.testing.assert_allclose(model(images), outputs, atol=1e-4)
    assert model.count_params() == 78_666


def test_trained_resnet32_knows_cifar10(shared):
    import tensorflow_datasets as tfds

    model = load_model(shared / "models/cifar10_resnet/resnet.h5")
    assert model.count_params() == 470_218
    test = tfds.load("cifar10", split="test[:512]", data_dir=shared / "data/tfds", download=False)
    images = np.stack([e["image"] for e in tfds.as_numpy(test)])
    labels = [e["label"] for e in tfds.as_numpy(test)]
    outputs = model((images - (125.307, 122.95, 113.865)) / (62.9932, 62.0887, 66.7048)).numpy()
    # 92.32 % on the whole test split; three standard errors of 512 images are 3.5 points.
    assert abs((outputs.argmax(axis=1) == labels).mean() - 0.9232) < 0.035


def test_wake_word_model_is_plain_keras_once_loaded(shared, tmp_path):
    model = load_model(shared / "models/mlperf_tiny/keyword_spotting/str_ww_ref_model.h5")
    assert model.count_params() == 47_707
    depthwise = [x for x in model.layers if "depthwise" in x.name]
    assert {type(x) for x in depthwise} == {keras.layers.DepthwiseConv2D}
    x = np.random.default_rng(0).normal(size=(4, 30, 1, 40)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    model.save(tmp_path / "model.keras")
    run(PLAIN_KERAS, *(tmp_path / n for n in ("model.keras", "x.npy", "y.npy")), cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x), atol=1e-6)


def dense(*layers):
    image = keras.Input((4,))
    x = image
    for layer in (*layers, keras.layers.Dense(3)):
        x = layer(x)
    return keras.Model(image, x)


class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def test_compiled_as_it_was_saved(tmp_path):
    model = dense()
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    optimizer = load_model(tmp_path / "model.keras").optimizer
    assert isinstance(optimizer, keras.optimizers.SGD)


def test_an_unknown_loss_does_not_hide_the_weights(tmp_path):
    model = dense()
    model.compile("sgd", Mine())
    model.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


class Mine(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_truncated_files(tmp_path, ending, part):
    path = tmp_path / f"model.{ending}"
    dense().save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"model\.{ending}: it is damaged"):
        load_model(path)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_lambda_layers_are_refused(tmp_path, ending):
    path = tmp_path / f"model.{ending}"
    dense(keras.layers.Lambda(lambda x: 2 * x)).save(path)
    with pytest.raises(ValueError, match=rf"model\.{ending}: it holds a Lambda layer"):
        load_model(path)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_custom_layers_are_named_and_accepted(tmp_path, ending):
    path = tmp_path / f"model.{ending}"
    dense(Twice()).save(path)
    with pytest.raises(ValueError, match=r"custom_objects=\{'Twice': Twice\}"):
        load_model(path)
    assert isinstance(load_model(path, custom_objects={"Twice": Twice}).layers[1], Twice)


def test_files_that_are_no_models(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.h5"):
        load_model(tmp_path / "absent.h5")
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.pt.*end in \.keras"):
        load_model(tmp_path / "model.pt")
    dense().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ValueError, match=r"weights only.*load_weights"):
        load_model(tmp_path / "model.weights.h5")


def test_legacy_switch_stays_as_it_was(tmp_path):
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    dense().save(tmp_path / "model.keras")
    load_model(tmp_path / "model.keras")
    assert os.environ.get("TF_USE_LEGACY_KERAS") == before
