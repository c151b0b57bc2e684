"""What is rewritten computes the same, and breaks the rule no more."""

import logging

import keras
import numpy as np
import pytest

import tfprune
from tests import models, surgeons
from tests.tflite import sparse_models
from tests.tflite.sparse_models import ONE_SIDED, depthwise, keeping, net, pointwise, stem
from tfprune import masks, sharing
from tfprune.graph import kernels as k
from tfprune.tflite.prepare import prepare_for_sparse_inference
from tfprune.tflite.sparse_inference import explain_sparse_inference

L = keras.layers


def head(*layers):
    def add(x):
        x = L.GlobalAveragePooling2D(keepdims=True)(x)
        for layer in layers:
            x = layer(x)
        return x

    return lambda: net(last=add)


def gate(activation):
    """Returns a gate that ends in a hard sigmoid, written one way or another."""

    def add(x):
        y = L.GlobalAveragePooling2D()(x)
        y = L.Reshape((1, 1, x.shape[-1]))(y)
        y = pointwise(y, 8)
        return L.Multiply()([x, activation(y, x.shape[-1])])

    return lambda: net(add)


def with_layer(y, n):
    return L.Activation("hard_sigmoid")(L.Conv2D(n, 1)(y))


def with_argument(y, n):
    return L.Conv2D(n, 1, activation="hard_sigmoid")(y)


def with_operations(y, n):
    return L.ReLU(6.0)(L.Conv2D(n, 1)(y) + 3.0) * (1.0 / 6.0)


REWRITTEN = {
    "one side": lambda: net(depthwise(pad=ONE_SIDED, same="valid", strides=2)),
    "the other side": lambda: net(depthwise(pad=((1, 0), (1, 0)), same="valid", strides=2)),
    "same": lambda: net(depthwise(strides=2)),
    "height and width": lambda: net(depthwise(strides=2), shape=(18, 16, 3)),
    "1x1": lambda: net(depthwise(1)),
    "2x2": lambda: net(depthwise(2)),
    "4x4": lambda: net(depthwise(4)),
    "3x5": lambda: net(depthwise((3, 5))),
    "dilation": lambda: net(depthwise(dilation_rate=2)),
    "entry of 2x2": lambda: net(first=lambda x: stem(x, pad=0, kernel=2)),
    "pooling": lambda: net(last=lambda x: L.Dense(6)(L.Flatten()(L.AveragePooling2D(8)(x)))),
    "pooling and 1x1": lambda: net(
        last=lambda x: L.Flatten()(L.Conv2D(6, 1)(L.AveragePooling2D(8)(x)))
    ),
    "head": head(L.Dropout(0.1), L.Conv2D(6, 1, padding="same"), L.Reshape((6,)), L.Softmax()),
    "long head": head(
        L.Conv2D(9, 1, use_bias=False),
        L.BatchNormalization(),
        L.Activation("hard_swish"),
        L.Conv2D(6, 1, activation="tanh"),
    ),
    "hard sigmoid, layer": gate(with_layer),
    "hard sigmoid, argument": gate(with_argument),
    "hard sigmoid, operations": gate(with_operations),
}


def same(model, prepared, x=None, tolerance=1e-5):
    x = surgeons.inputs(model, n=3, scale=2.0) if x is None else x
    expected = model(x, training=False)
    assert np.ptp(expected, axis=0).max() > 1e-3  # it depends on its input
    assert surgeons.error(expected, prepared(x, training=False)) <= tolerance


@pytest.mark.parametrize("name", REWRITTEN)
def test_it_computes_the_same_and_breaks_no_rule(name, caplog):
    model = sparse_models.pruned(REWRITTEN[name]())
    before = model.get_weights()
    prepared = prepare_for_sparse_inference(model)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    same(model, prepared)
    assert model.output_shape == prepared.output_shape
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("name", REWRITTEN)
def test_it_broke_one_before_and_runs_sparse_afterwards(name, nehalem, tmp_path):
    model = sparse_models.pruned(REWRITTEN[name]())
    before, after = tmp_path / "before", tmp_path / "after"
    after.mkdir()
    # Two convolutions behind the pooling are in order as they are, one is not.
    assert (explain_sparse_inference(model)["rule"] != "").any() == (name != "long head")
    before.mkdir()
    file = sparse_models.write(before, "model", prepare_for_sparse_inference(model))
    found = sparse_models.profiled(nehalem, [file], after)["model"]
    assert any("SPMM" in kernel for kernel in found["kernels"])
    assert found["error"] < 1e-5


STAYS = {
    "entry on one side": (lambda: net(first=lambda x: stem(x, pad=0, same="same")), "odd size"),
    "5x5 on one side": (lambda: net(depthwise(5, strides=2)), "train again"),
    "without padding": (lambda: net(depthwise(same="valid")), "train again"),
    "pooling": (lambda: net(L.MaxPooling2D()), "depthwise convolutions"),
    "one pixel goes out": (head(), "without keepdims"),
    "a layer called twice": (
        lambda: net(lambda x: (layer := L.DepthwiseConv2D(3, padding="same", strides=2))(layer(x))),
        "train again",
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_can_not_be_rewritten_is_reported_with_a_remedy(name, caplog):
    build, remedy = STAYS[name]
    model = sparse_models.pruned(build())
    prepared = prepare_for_sparse_inference(model)
    assert remedy in caplog.text
    assert [x.name for x in prepared.layers] == [x.name for x in model.layers]
    same(model, prepared)


def test_nested_and_sequential_models_keep_their_form():
    block = keras.Sequential(
        [
            keras.Input((8, 8, 24)),
            L.DepthwiseConv2D(3, strides=2, padding="same", name="down"),
            L.Conv2D(24, 1, name="point"),
        ],
        name="block",
    )
    end = keras.Sequential(
        [
            keras.Input((4, 4, 24)),
            L.GlobalAveragePooling2D(keepdims=True),
            L.Conv2D(6, 1, name="classes"),
            L.Flatten(),
        ],
        name="end",
    )
    model = sparse_models.pruned(net(block, last=end))
    prepared = prepare_for_sparse_inference(model)
    same(model, prepared)
    inner = prepared.get_layer("block")
    assert isinstance(inner, keras.Sequential)
    assert [x.name for x in inner.layers] == ["down_even", "down", "point"]
    assert inner.get_layer("down").kernel_size == (5, 5)
    assert type(prepared.get_layer("end").get_layer("classes")) is L.Dense
    assert [x.name for x in prepared.layers] == [x.name for x in model.layers]


def test_masks_sharing_and_compilation_are_carried_over(tmp_path):
    model = sparse_models.pruned(
        net(depthwise(strides=2), last=keeping(lambda x: L.Flatten()(L.Conv2D(6, 1)(x))))
    )
    tfprune.cluster_weights(model, 8)
    masks.hold_zeros(model)
    model.compile("sgd", "mse", metrics=["mae"])
    prepared = prepare_for_sparse_inference(model)
    held, before = masks.of(prepared), masks.of(model)
    assert sum(m.sum() for m in held.values()) == sum(m.sum() for m in before.values())
    x = surgeons.inputs(prepared, n=8)
    prepared.fit(x, np.ones((8, 6)), verbose=0)
    shared = sharing.of(prepared)
    assert shared.keys() == sharing.of(model).keys()
    for name, variable in k.named(prepared).items():
        if name in held:
            assert not variable.numpy()[~held[name]].any()
        if name in shared:
            assert len(np.unique(variable.numpy())) <= 9
    prepared.save(tmp_path / "prepared.keras")
    loaded = keras.saving.load_model(tmp_path / "prepared.keras", safe_mode=True)
    assert surgeons.error(prepared(x), loaded(x)) < 1e-6


def test_a_model_without_a_graph_is_an_error():
    with pytest.raises(ValueError, match="subclassed"):
        prepare_for_sparse_inference(models.subclassed())


def application(name, size):
    build = getattr(keras.applications, name)
    width = {} if name == "EfficientNetB0" else {"alpha": 0.35 if name == "MobileNetV2" else 0.5}
    if name == "MobileNetV3Small":
        width = {"minimalistic": False}
    model = build(weights=None, input_shape=(size, size, 3), classes=10, **width)
    sparse_models.pruned(model)
    images = np.random.default_rng(0).uniform(-1, 1, (8, size, size, 3)).astype("float32")
    if name not in ("MobileNet", "MobileNetV2"):  # these rescale
        images = images * 127 + 128
    tfprune.reestimate_batchnorm(model, [(images, None)])
    return model, images[:2]


# Odd sizes on the way, or after the entry even ones, are what these networks need.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "warnings"),
    [
        ("MobileNet", 96, 1),
        ("MobileNetV2", 96, 1),
        ("MobileNetV3Small", 96, 3),
        ("MobileNet", 95, 0),
        ("MobileNetV2", 97, 0),
        ("MobileNetV3Small", 97, 0),
        ("EfficientNetB0", 97, 0),
    ],
)
def test_applications(name, size, warnings, nehalem, tmp_path):
    model, x = application(name, size)
    prepared = prepare_for_sparse_inference(model)
    same(model, prepared, x)
    content = sparse_models.file(prepared, x[:1])
    table = explain_sparse_inference(content)
    assert (table["rule"] != "").sum() == warnings
    assert table.attrs["verdict"]["engaged"] == (not warnings)
    folder = tmp_path / "run"
    folder.mkdir()
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    np.savez(path.with_suffix(".npz"), x=x[:1], y0=model(x[:1], training=False))
    found = sparse_models.profiled(nehalem, [path], folder)["model"]
    sparse = sum("SPMM" in kernel for kernel in found["kernels"])
    assert sparse == (table["runs"] == "sparse").sum()
    assert found["error"] < 1e-4
