"""Architectures against known counts, MLPerf Tiny's trained file and keras.applications."""

import itertools
import random

import keras
import numpy as np
import pytest

from tfprune import zoo


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def macs(model):
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
    return total


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds"),
    [
        ("resnet20", 269_722, 40_551_040),
        ("resnet32", 464_154, 68_862_592),
        ("resnet56", 853_018, 125_485_696),
        ("resnet110", 1_727_962, 252_887_680),
        # Halfway between ResNet-32 and ResNet-56: n is 7, between 5 and 9.
        ("resnet44", 658_586, 97_174_144),
        ("vgg16_bn", 14_724_042, 313_201_664),
    ],
)
def test_known_counts_for_cifar(name, parameters, multiply_adds):
    model = zoo.build(name)
    assert (trainable(model), macs(model)) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("lenet_300_100", 10, 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),
        ("lenet5", 10, 431_080),
        ("resnet8", 10, 78_666),
        ("ds_cnn", 12, 24_908),
    ],
)
def test_known_totals(name, classes, parameters):
    assert zoo.build(name, classes=classes).count_params() == parameters


@pytest.mark.parametrize(
    ("ours", "theirs", "width"),
    [
        ("mobilenet_v1", "MobileNet", 1.0),
        ("mobilenet_v1", "MobileNet", 0.25),
        ("mobilenet_v2", "MobileNetV2", 1.0),
        ("mobilenet_v2", "MobileNetV2", 0.35),
        ("mobilenet_v2", "MobileNetV2", 1.4),
    ],
)
def test_mobilenets_have_the_parameters_of_keras_applications(ours, theirs, width):
    reference = getattr(keras.applications, theirs)(
        input_shape=(96, 96, 3), weights=None, alpha=width, classes=100
    )
    model = zoo.build(ours, (96, 96, 3), classes=100, width=width)
    assert model.count_params() == reference.count_params()
    # By size: the head of theirs is a 1x1 convolution in V1, a Dense layer here.
    sizes = (sorted(np.prod(v.shape) for v in m.trainable_variables) for m in (model, reference))
    assert next(sizes) == next(sizes)


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_mobilenets_meet_the_graph_rules_of_sparse_xnnpack(name):
    layers = zoo.build(name, (32, 32, 3)).layers
    entry = next(x for x in layers if type(x) is keras.layers.Conv2D)
    assert entry.kernel.shape[:3] == (3, 3, 3)
    for before, layer in itertools.pairwise(layers):
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            if layer.strides == (2, 2):
                assert layer.padding == "valid"
                assert before.padding == ((1, 1), (1, 1))
            elif layer.kernel_size == (3, 3):
                assert isinstance(layer, keras.layers.DepthwiseConv2D)
                assert layer.padding == "same"
            else:
                assert layer.kernel_size == (1, 1)
                assert layer.strides == (1, 1)
        if isinstance(layer, keras.layers.ReLU):
            assert layer.max_value == 6.0
    assert [type(x) for x in layers[-2:]] == [
        keras.layers.GlobalAveragePooling2D,
        keras.layers.Dense,
    ]


def test_resnet8_is_layer_by_layer_mlperfs(shared):
    theirs = zoo.load_model(shared / "models/mlperf_tiny/pretrainedResnet.h5")
    ours = zoo.build("resnet8")

    def described(model):
        return [
            (
                type(x).__name__.replace("Activation", "ReLU"),
                x.output.shape[1:],
                [v.shape for v in x.weights],
            )
            for x in model.layers
            if not isinstance(x, keras.layers.InputLayer)
        ]

    # The order of parallel branches is free, weights and shapes are not.
    assert sorted(map(str, described(ours))) == sorted(map(str, described(theirs)))
    kernels = {tuple(v.shape) for v in theirs.weights}
    assert {tuple(v.shape) for v in ours.weights} == kernels
    assert ours.get_layer("stem_conv").kernel_regularizer.l2 == pytest.approx(1e-4)


def test_shortcut_of_option_a_is_every_second_pixel_and_zeros():
    model = zoo.build("resnet20", seed=0)
    add = model.get_layer("stage2_block1_add")
    probe = keras.Model(model.input, [add.input[0], model.get_layer("stage1_block3_relu2").output])
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    shortcut, before = (np.asarray(y) for y in probe(x))
    np.testing.assert_array_equal(shortcut[..., :16], before[:, ::2, ::2])
    assert not shortcut[..., 16:].any()


# The deeper nets are resnet20's code, and slow to save.
@pytest.mark.parametrize("name", sorted({*zoo.names()} - {f"resnet{n}" for n in (32, 44, 56, 110)}))
def test_every_model_is_plain_keras_and_ends_in_probabilities(name, tmp_path):
    small = {"width": 0.25} if name.startswith("mobilenet") else {}
    shape = (32, 32, 3) if small else None
    model = zoo.build(name, shape, classes=7, seed=1, **small)
    x = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    y = model(x).numpy()
    assert y.shape == (3, 7)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(again(x).numpy(), y)
    assert len({layer.name for layer in model.layers}) == len(model.layers)


def test_resnet20_converts_to_tflite():
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    model = zoo.build("resnet20", seed=0)
    interpreter = Interpreter(
        model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert()
    )
    interpreter.allocate_tensors()
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(y, model(x).numpy(), atol=1e-5)


def test_seed_makes_weights_and_leaves_the_global_state():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first, second, other = (zoo.build("digits_cnn", seed=s).get_weights() for s in (3, 3, 4))
    assert random.random() == expected
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_weight_decay_is_he_et_als():
    penalised = zoo.build("resnet20", weight_decay=1e-4)
    kernels = [x.kernel for x in penalised.layers if hasattr(x, "kernel")]
    expected = 1e-4 * sum(float((k.numpy() ** 2).sum()) for k in kernels)
    assert float(sum(penalised.losses)) == pytest.approx(expected, rel=1e-4)
    assert not zoo.build("resnet20").losses


def test_digits_cnn_learns_the_digits():
    from tfprune import data

    digits = data.load("digits", batch_size=32)
    model = zoo.build("digits_cnn", seed=0)
    model.compile(
        keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(digits.train, epochs=8, verbose=0, shuffle=False)
    assert model.evaluate(digits.test, verbose=0)[1] >= 0.97


def test_wrong_words_are_explained():
    with pytest.raises(ValueError, match="Did you mean resnet20"):
        zoo.build("resnet_20")
    with pytest.raises(ValueError, match=r"widht.*width: float"):
        zoo.build("mobilenet_v1(widht=1)")
    with pytest.raises(ValueError, match="width must be positive"):
        zoo.build("mobilenet_v2", width=0)
