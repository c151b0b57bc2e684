"""Conversion of the kinds of models that Keras 3 has, checked with LiteRT itself."""

import os

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tfprune.graph.precision import in_float32
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

L = keras.layers
RNG = np.random.default_rng(0)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.norm, self.drop, self.head = L.BatchNormalization(), L.Dropout(0.5), L.Dense(3)

    def call(self, x, training=False):
        return self.head(self.drop(self.norm(x, training=training), training=training))


def nested():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(5, activation="relu")])
    return keras.Sequential([keras.Input((6,)), inner, L.Dense(3)])


MODELS = {
    "subclassed": (Subclassed, (6,)),
    "nested": (nested, (6,)),
    "lstm": (lambda: keras.Sequential([L.LSTM(4), L.Dense(3)]), (5, 6)),
    "open size": (
        lambda: keras.Sequential([keras.Input((None, None, 2)), L.Conv2D(3, 3)]),
        (7, 8, 2),
    ),
}


def litert(content, inputs):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return runner(**inputs)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_computes_what_keras_does(name):
    build, shape = MODELS[name]
    model, x = build(), RNG.normal(size=(2, *shape)).astype("float32")
    expected = np.asarray(model(x, training=False))
    content = convert.convert(convert.trace(model, x), VARIANTS["float32"])
    for row in range(2):
        found = litert(content, {"input_0": x[row : row + 1]})["output_0"]
        np.testing.assert_allclose(found[0], expected[row], atol=1e-5)


def test_dict_inputs_and_outputs_are_numbered_in_flatten_order():
    parts = {"b": keras.Input((2,), name="b"), "a": keras.Input((3,), name="a")}
    outputs = {"y": L.Rescaling(2.0)(parts["a"]), "x": L.Rescaling(3.0)(parts["b"])}
    x = {"b": np.ones((1, 2), "float32"), "a": np.ones((1, 3), "float32")}
    content = convert.convert(convert.trace(keras.Model(parts, outputs), x), VARIANTS["float32"])
    found = litert(content, {"input_0": x["a"], "input_1": x["b"]})
    np.testing.assert_array_equal(found["output_0"], [[3, 3]])
    np.testing.assert_array_equal(found["output_1"], [[2, 2, 2]])


def test_int8_without_calibration_says_what_to_pass():
    module = convert.trace(nested(), np.ones((1, 6), "float32"))
    with pytest.raises(ValueError, match="pass calibration="):
        convert.convert(module, VARIANTS["int8"])


def test_a_loop_is_not_calibrated_but_an_unrolled_one_is():
    """TensorFlow's calibrator would end this very process."""
    x = RNG.normal(size=(8, 4, 3)).astype("float32")
    rolled = keras.Sequential([keras.Input((4, 3)), L.LSTM(2)])
    with pytest.raises(ValueError, match="unroll=True"):
        convert.convert(convert.trace(rolled, x), VARIANTS["int8"], [x])
    unrolled = keras.Sequential([keras.Input((4, 3)), L.LSTM(2, unroll=True)])
    assert convert.convert(convert.trace(unrolled, x), VARIANTS["int8"], [x])


def test_a_model_that_can_not_be_converted_says_which_op():
    x = keras.Input((4, 4))
    model = keras.Model(x, keras.ops.linalg.inv(x))
    module = convert.trace(model, np.eye(4, dtype="float32")[None])
    with pytest.raises(RuntimeError, match=r"no kernel for MatrixInverse: .*SELECT_TF_OPS"):
        convert.convert(module, VARIANTS["float32"])


def test_the_converter_says_nothing(capfd):
    x = np.ones((1, 6), "float32")
    module = convert.trace(nested(), x)
    capfd.readouterr()
    for name in ("float32", "int8"):
        convert.convert(module, VARIANTS[name], [x])
    assert capfd.readouterr() == ("", "")


def test_quiet_gives_the_terminal_back_after_an_error(capfd):
    said = []
    with pytest.raises(KeyError), convert.quiet(said):
        os.write(2, b"chatter\n")
        raise KeyError
    os.write(2, b"heard\n")
    assert said == ["chatter"]
    assert capfd.readouterr().err == "heard\n"


def test_mixed_precision_is_put_back():
    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential([keras.Input((6,)), L.Dense(3, dtype=policy, name="head")])
    with in_float32(model) as changed:
        assert "head" in changed
        content = convert.convert(
            convert.trace(model, np.ones((1, 6), "float32")), VARIANTS["float32"]
        )
    assert model.get_layer("head").compute_dtype == "float16"
    expected = np.ones((1, 6)) @ model.get_layer("head").kernel.numpy()
    found = litert(content, {"input_0": np.ones((1, 6), "float32")})["output_0"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
