"""What `--model` takes."""

import sys

import pytest

from tfprune import zoo

SHAPE = (8, 8, 1)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "some_nets.py").write_text(
        "import keras\n"
        "def dense(input_shape, classes, units=4):\n"
        "    i = keras.Input(input_shape)\n"
        "    x = keras.layers.Dense(units)(keras.layers.Flatten()(i))\n"
        "    return keras.Model(i, keras.layers.Dense(classes)(x))\n"
        "def fixed():\n"
        "    return dense((8, 8, 1), 10)\n"
        "def anything(**kwargs):\n"
        "    return dense(**kwargs)\n"
        "def nothing():\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "some_nets"
    sys.modules.pop("some_nets", None)


def test_names_of_the_zoo_with_arguments():
    model = zoo.resolve("mobilenet_v1(width=0.25)", (32, 32, 3), 5)
    assert model.name == "mobilenet_v1"
    assert model.output_shape == (None, 5)
    assert model.get_layer("stem_conv").filters == 8


def test_names_of_keras_applications():
    model = zoo.resolve("MobileNetV2(alpha=0.35)", (32, 32, 3), 5)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 5)


@pytest.mark.parametrize("function", ["dense", "dense(units=6)", "fixed", "anything"])
def test_functions(nets, function):
    model = zoo.resolve(f"{nets}:{function}", SHAPE, 10)
    assert model.input_shape == (None, *SHAPE)
    assert model.output_shape == (None, 10)


def test_files(tmp_path):
    zoo.build("digits_cnn").save(tmp_path / "net.keras")
    assert zoo.resolve(str(tmp_path / "net.keras"), SHAPE, 10).name == "digits_cnn"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mobilenetv2", "Did you mean MobileNetV2"),
        ("ResNet20", "Did you mean resnet20"),
        ("EficientNetB0", "Did you mean EfficientNetB0"),
        ("resnet20(3", "can't read"),
        ("no_such_module:f", "PYTHONPATH"),
        ("some_nets:dens", "Did you mean dense"),
        ("some_nets:nothing", "return a keras.Model"),
        ("some_nets:dense(unit=3)", "unexpected keyword argument 'unit'"),
    ],
)
def test_wrong_words_are_explained(nets, spec, message):
    with pytest.raises(ValueError, match=message):
        zoo.resolve(spec, SHAPE, 10)


def test_a_model_that_does_not_fit_the_data_is_refused(tmp_path):
    path = str(tmp_path / "net.keras")
    zoo.build("digits_cnn").save(path)
    with pytest.raises(ValueError, match=r"\(8, 8, 1\), the data has \(28, 28, 1\)"):
        zoo.resolve(path, (28, 28, 1), 10)
    with pytest.raises(ValueError, match="10 outputs, the data has 100 classes"):
        zoo.resolve(path, SHAPE, 100)


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.keras"):
        zoo.resolve("nowhere.keras")
