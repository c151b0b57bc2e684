"""What is said of files, and what LiteRT does with them on emulated processors that run sparse."""

import functools

import keras
import numpy as np
import pytest

from tests.tflite import sparse_models
from tests.tflite.sparse_models import CASES, QUICK
from tfprune.tflite import (
    clusters,
    convert,
    flatbuffer,
    padding,
    sparse_inference,
    sparse_storage,
)
from tfprune.tflite.sparse_inference import explain_sparse_inference
from tfprune.tflite.variants import VARIANTS

L = keras.layers
SOME = ["gate", "odd size", "entry on one side", "depthwise on one side", "1x1 behind the pooling"]


# Of weights, relative to the largest output.
ROUNDING = {"float16_sparse": 2e-3, "dynamic_int8": 0.05}
SLOW = [name for name in CASES if name not in QUICK]
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns what gives the file of a case, which it makes once."""
    folder = tmp_path_factory.mktemp("cases")

    @functools.cache
    def make(name):
        case = CASES[name]
        keras.utils.set_random_seed(0)
        model = sparse_models.pruned(case.model())
        return sparse_models.write(folder, name, model, variant=case.variant, kept=case.kept)

    return make


@pytest.fixture(scope="module")
def on_nehalem(nehalem, files, tmp_path_factory):
    """Returns what gives the profile of a case, of which one process makes many."""

    @functools.cache
    def run(slow):
        names = SLOW if slow else QUICK
        folder = tmp_path_factory.mktemp("nehalem")
        return sparse_models.profiled(nehalem, [files(name) for name in names], folder)

    return lambda name: run(name in SLOW)[name]


@pytest.mark.parametrize("name", ALL)
def test_the_rule_that_is_broken_is_named(files, name):
    case = CASES[name]
    table = explain_sparse_inference(files(name))
    verdict = table.attrs["verdict"]
    assert verdict["engaged"] == case.engaged
    assert bool(verdict["fault"]) == case.fault
    assert bool(clusters.fault(flatbuffer.read(files(name)))) == case.fault
    broken = table[(table["rule"] != "") & (table["runs"] != "faulty")]
    if not case.kind:
        assert broken.empty
        assert case.rule in verdict["reason"]
        return
    named = table[table["rule"].str.contains(case.rule, regex=False)]
    assert case.kind in set(named["kind"])
    assert named["remedy"].all()
    assert len(broken) <= len(named)


@pytest.mark.parametrize("name", ALL)
def test_the_library_does_as_explained(on_nehalem, files, name):
    agrees(on_nehalem(name), files(name), CASES[name].variant)


@pytest.mark.parametrize("name", [name for name in QUICK if CASES[name].fault])
def test_what_would_go_wrong_is_stored_with_its_zeros(files, name):
    keras.utils.set_random_seed(0)
    model = sparse_models.pruned(CASES[name].model())
    x = np.ones((1, *model.input_shape[1:]), "float32")
    made = convert.convert(convert.trace(model, x), VARIANTS["float32_sparse"])
    assert clusters.fault(flatbuffer.read(files(name)))
    assert not clusters.fault(flatbuffer.read(made))
    assert not any(row.sparse for row in sparse_storage.describe(flatbuffer.read(made)))


def test_arm_does_as_explained(arm64, files, tmp_path):
    found = sparse_models.profiled(arm64, [files(name) for name in SOME], tmp_path)
    for name in SOME:
        agrees(found[name], files(name), CASES[name].variant)


def agrees(found, file, variant):
    table = explain_sparse_inference(file)
    if table.attrs["verdict"]["fault"]:
        assert "failed" in found or found["error"] > 1e-3
    else:
        assert found["error"] < ROUNDING.get(variant, 1e-5)
    if "kernels" in found:
        sparse = sum("SPMM" in name for name in found["kernels"])
        assert sparse == (table["runs"] == "sparse").sum()


def test_on_avx_nothing_runs_sparse(files):
    for target in ("x86", "x86_avx"):
        table = explain_sparse_inference(files("gate"), target=target)
        assert table.attrs["verdict"] | {"zeros": None} == {
            "engaged": False,
            "reason": sparse_inference._NO_KERNELS,
            "zeros": None,
            "fault": "",
        }
        assert set(table["runs"]) <= {"dense", "stored", "fused"}
    assert explain_sparse_inference(files("gate"), target="x86_sse").attrs["verdict"]["engaged"]
    with pytest.raises(ValueError, match=r"unknown target 'arm63'.* Did you mean arm64"):
        explain_sparse_inference(files("gate"), target="arm63")


@pytest.mark.parametrize(("zeros", "engaged"), [(2 / 3, False), (2 / 3 + 1 / 384, True)])
def test_more_than_two_thirds_must_be_zero(zeros, engaged):
    """Of kernels with 16 * 24 and 24 * 24 weights, 2/3 is a whole number."""
    model = sparse_models.pruned(sparse_models.net(), zeros)
    x = np.ones((1, 16, 16, 3), "float32")
    verdict = explain_sparse_inference(sparse_models.file(model, x)).attrs["verdict"]
    assert verdict["engaged"] == engaged
    kernels = [x.kernel.numpy() for x in model.layers if getattr(x, "kernel_size", 0) == (1, 1)]
    empty, size = (sum(f(k) for k in kernels) for f in (lambda k: (k == 0).sum(), np.size))
    assert verdict["zeros"] == empty / size


def test_a_keras_model_is_converted_first():
    model = sparse_models.pruned(sparse_models.net())
    assert explain_sparse_inference(model).attrs["verdict"]["engaged"]


def test_a_model_of_other_things_than_maps():
    x = keras.Input((12, 4))
    model = sparse_models.pruned(keras.Model(x, L.Dense(3)(L.LSTM(4, unroll=True)(x))))
    table = explain_sparse_inference(model)
    assert not table.attrs["verdict"]["engaged"]
    assert not (table["rule"] != "").any()


def test_what_is_no_file_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no TFLite file"):
        explain_sparse_inference(b"something else")
    with pytest.raises(FileNotFoundError):
        explain_sparse_inference(tmp_path / "missing.tflite")
    with pytest.raises(ValueError, match="not fixed"):
        explain_sparse_inference(keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(3, 3)]))


@pytest.mark.parametrize(
    ("layer", "size", "written"),
    [
        (lambda: L.Conv2D(4, 3, strides=2, padding="same"), 9, True),
        (lambda: L.Conv2D(4, 3, strides=2, padding="same"), 8, False),
        (lambda: L.DepthwiseConv2D(5, strides=2, padding="same"), 9, True),
        (lambda: L.DepthwiseConv2D(3, strides=3, padding="same"), 10, True),
        (lambda: L.Conv2D(4, 3, padding="same"), 9, False),
        (lambda: L.Conv2D(4, 1, strides=2, padding="same"), 9, False),
    ],
)
def test_even_padding_is_written_out(layer, size, written, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    model = keras.Sequential([keras.Input((size, size, 3)), layer()])
    x = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")
    content = flatbuffer.read(sparse_models.file(model, x, variant="float32", kept=False))
    assert padding.explicit(content) == written
    assert padding.explicit(content) == 0
    kinds = [flatbuffer.kind(content, op) for op in content.subgraphs[0].operators]
    assert kinds.count("PAD") == written
    interpreter = Interpreter(model_content=flatbuffer.write(content))
    interpreter.allocate_tensors()
    found = interpreter.get_signature_runner()(input_0=x)["output_0"]
    np.testing.assert_allclose(found, model(x), atol=1e-6)
