"""Files run in a process of their own: their figures, and what becomes of crashes and hangs."""

import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tfprune.measurement import devices, runtime
from tfprune.measurement.devices import _worker as worker
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

RNG = np.random.default_rng(0)
FAST = {"warmup": 1, "runs": 3, "min_seconds": 0.0}


def save(path, model, example, variant="float32", calibration=None):
    path.write_bytes(convert.convert(convert.trace(model, example), VARIANTS[variant], calibration))
    return path


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Returns a model, its file, and 300 samples."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, activation="softmax")])
    x = RNG.normal(size=(300, 5)).astype("float32")
    return model, save(tmp_path_factory.mktemp("dense") / "dense.tflite", model, x), x


def test_outputs_are_keras_and_figures_are_those_asked_for(dense):
    model, file, x = dense
    result = runtime.run(file, x, warmup=3, runs=20, min_seconds=0.05)
    assert result["status"] == "ok"
    np.testing.assert_allclose(result["outputs"][0], np.asarray(model(x)), atol=1e-6)
    assert result["runs"] >= 20
    assert result["threads"] == 1
    assert result["samples"] == 300
    assert 0 < result["latency_ms_min"] <= result["latency_ms_median"] <= result["latency_ms_p90"]
    assert result["latency_ms_iqr"] >= 0
    assert result["init_ms"] > 0
    assert result["runtime"].startswith("ai-edge-litert ")


def test_timing_lasts_for_min_seconds_and_stops_at_max_seconds(dense):
    _, file, x = dense
    long = runtime.run(file, x[:4], runs=1, min_seconds=0.2, outputs=False)
    assert long["runs"] * long["latency_ms_median"] > 2
    short = runtime.run(file, x[:4], runs=10**9, max_seconds=0.1, outputs=False)
    assert 1 <= short["runs"] < 10**6
    assert "outputs" not in short


def test_summary_is_numpys():
    times = RNG.gamma(2.0, size=101)
    result = worker.summary(times)
    ordered = np.sort(times)
    assert result["latency_ms_median"] == ordered[50]
    assert result["latency_ms_iqr"] == pytest.approx(ordered[75] - ordered[25])
    assert result["latency_ms_p90"] == ordered[90]
    assert result["latency_ms_min"] == ordered[0]


def test_peak_memory_grows_with_the_model(tmp_path):
    big = keras.Sequential([keras.Input((2000,)), keras.layers.Dense(2000)])
    x = np.ones((2, 2000), "float32")
    result = runtime.run(save(tmp_path / "big.tflite", big, x), x, **FAST)
    # 16 MB of weights, which the runtime may hold twice: as read, and packed for its kernels.
    assert 16e6 < result["peak_memory_bytes"] < 60e6


def test_full_integer_files_get_and_return_floats(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = RNG.normal(size=(100, 4)).astype("float32")
    file = save(tmp_path / "int8.tflite", model, x, "int8_int_io", [x])
    result = runtime.run(file, x, **FAST)
    expected = np.asarray(model(x))
    step = np.ptp(expected) / 255
    assert result["outputs"][0].dtype == np.float32
    assert np.abs(result["outputs"][0] - expected).max() < 4 * step


def test_quantise_rounds_and_clips_by_scale_and_zero_point():
    tensor = {"quantization": (0.5, 10), "dtype": np.int8}
    values = np.array([0.0, 0.74, 0.76, -1e9, 1e9])
    np.testing.assert_array_equal(worker.quantise(values, tensor), [10, 11, 12, -128, 127])
    back = worker.dequantise(np.array([10, 12], np.int8), tensor)
    np.testing.assert_array_equal(back, [0.0, 1.0])


def test_inputs_and_outputs_keep_their_order(tmp_path):
    inputs = [keras.Input((2,), name=name) for name in "zyxwvutsrqp"]
    outputs = [keras.layers.Rescaling(float(i))(part) for i, part in enumerate(inputs)]
    model = keras.Model(inputs, outputs)
    x = [np.full((3, 2), 1.0 + i, "float32") for i in range(11)]
    file = save(tmp_path / "many.tflite", model, x)
    found = runtime.run(file, x, **FAST)["outputs"]
    for i, part in enumerate(found):
        np.testing.assert_allclose(part, np.full((3, 2), i * (1.0 + i)))
    named = {f"input_{i}": part for i, part in reversed(list(enumerate(x)))}
    np.testing.assert_allclose(runtime.run(file, named, **FAST)["outputs"], found)


def test_many_samples_equal_one_interpreter(dense):
    _, file, x = dense
    alone = Interpreter(model_path=str(file))
    alone.allocate_tensors()
    expected = []
    for row in x:
        alone.set_tensor(alone.get_input_details()[0]["index"], row[None])
        alone.invoke()
        expected.append(alone.get_tensor(alone.get_output_details()[0]["index"])[0])
    np.testing.assert_array_equal(runtime.run(file, x, **FAST)["outputs"][0], expected)


def test_samples_may_be_in_a_file(dense, tmp_path):
    _, file, x = dense
    np.save(tmp_path / "x.npy", x[:5])
    assert runtime.run(file, tmp_path / "x.npy", **FAST)["samples"] == 5


@pytest.mark.parametrize("content", [b"", b"not a model" * 50])
def test_a_corrupt_file_fails_with_a_reason(tmp_path, content):
    file = tmp_path / "bad.tflite"
    file.write_bytes(content)
    result = runtime.run(file, np.ones((2, 3), "float32"), **FAST)
    assert result["status"] == "failed"
    assert len(result["reason"]) > 10


def test_samples_of_a_wrong_shape_fail_with_both_shapes(dense):
    result = runtime.run(dense[1], np.ones((2, 4), "float32"), **FAST)
    assert result["status"] == "failed"
    assert "[1, 5]" in result["reason"]
    assert "[4]" in result["reason"]


def fake_worker(monkeypatch, tmp_path, code):
    script = tmp_path / "fake.py"
    script.write_text(code)
    monkeypatch.setattr(devices, "WORKER", script)


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_a_crash_names_its_signal_and_last_words(dense, tmp_path, monkeypatch, name):
    code = "import os, signal, sys\nprint('ERROR: kernel', file=sys.stderr, flush=True)\n"
    code += f"os.kill(os.getpid(), signal.{name})"
    fake_worker(monkeypatch, tmp_path, code)
    result = runtime.run(dense[1], dense[2])
    assert result["status"] == "failed"
    assert name in result["reason"]
    assert "ERROR: kernel" in result["reason"]


def test_a_hang_is_ended(dense, tmp_path, monkeypatch):
    fake_worker(monkeypatch, tmp_path, "import time\nprint('loaded', flush=True)\ntime.sleep(60)")
    result = runtime.run(dense[1], dense[2], timeout=0.5)
    assert result["status"] == "failed"
    assert "no progress for 0.5 s" in result["reason"]


def test_slow_progress_is_no_hang(dense, tmp_path, monkeypatch):
    code = "import json, pathlib, sys, time\nfor i in range(6):\n"
    code += "    print(i, flush=True)\n    time.sleep(0.3)\n"
    code += "folder = pathlib.Path(sys.argv[1]).parent\n"
    code += "(folder / 'result.json').write_text(json.dumps({'status': 'ok'}))"
    fake_worker(monkeypatch, tmp_path, code)
    assert runtime.run(dense[1], dense[2], timeout=1.0)["status"] == "ok"


def test_files_that_take_turns_have_the_ratio_of_their_work(tmp_path):
    def file(name, layers):
        stack = [keras.layers.Dense(192) for _ in range(layers)]
        return save(tmp_path / name, keras.Sequential([keras.Input((192,)), *stack]), x)

    x = np.ones((64, 192), "float32")  # arithmetic, not memory, which other work shares
    once, again, four_times = file("1.tflite", 4), file("2.tflite", 4), file("4.tflite", 16)
    turns = runtime.compare([once, again, four_times], x, runs=200, min_seconds=0.0)
    assert turns.shape == (20, 3)
    assert (turns > 0).all()
    ratios = np.median(turns[:, 1:] / turns[:, :1], axis=0)
    # A machine that does other things is allowed for.
    assert 0.7 < ratios[0] < 1.4
    assert 2.5 < ratios[1] < 8


def test_turns_last_for_min_seconds_and_stop_at_max_seconds(dense):
    _, file, x = dense
    long = runtime.compare([file, file], x[:4], runs=1, min_seconds=0.2)
    assert len(long) > 10
    short = runtime.compare([file, file], x[:4], runs=10**9, max_seconds=0.1)
    assert 1 <= len(short) < 10**5


def test_what_is_timed_in_turns_fails_with_a_reason(dense, tmp_path, monkeypatch):
    _, file, x = dense
    with pytest.raises(FileNotFoundError, match=r"none\.tflite"):
        runtime.compare([file, tmp_path / "none.tflite"], x)
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"not a model" * 50)
    with pytest.raises(RuntimeError, match=r"can't be timed: .{10}"):
        runtime.compare([file, bad], x)
    with pytest.raises(RuntimeError, match=r"\[4\]"):
        runtime.compare([file], x[:, :4])
    fake_worker(monkeypatch, tmp_path, "import time\ntime.sleep(60)")
    with pytest.raises(RuntimeError, match=r"no progress for 0\.5 s"):
        runtime.compare([file], x, timeout=0.5)


def test_operators_are_profiled_if_asked_for(tmp_path):
    stack = [keras.layers.Dense(n) for n in (500, 1000, 8)]
    model = keras.Sequential([keras.Input((500,)), *stack])
    x = np.ones((4, 500), "float32")
    file = save(tmp_path / "three.tflite", model, x)
    ops = runtime.run(file, x, profile=True, **FAST)["ops"]
    assert [row["op"] for row in ops] == list(range(len(ops)))
    assert sum(row["share"] for row in ops) == pytest.approx(1)
    first, second, third = (row["ms"] for row in ops if "Fully Connected" in row["name"])
    assert second > third
    assert first > 0
    assert runtime.run(file, x, **FAST)["ops"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
def test_what_is_done_apart_may_die():
    assert worker.apart(lambda: [1, {"a": "b" * 10**6}], 10) == [1, {"a": "b" * 10**6}]
    assert worker.apart(lambda: os.kill(os.getpid(), 9), 10) is None
    assert worker.apart(lambda: time.sleep(60), 0.2) is None
    assert worker.apart(lambda: os._exit(3), 10) is None


def test_a_baseline_takes_turns(tmp_path):
    def file(name, layers):
        stack = [keras.layers.Dense(192) for _ in range(layers)]
        return save(tmp_path / name, keras.Sequential([keras.Input((192,)), *stack]), x)

    x = np.ones((8, 192), "float32")
    small, large = file("1.tflite", 4), file("4.tflite", 16)
    result = runtime.run(large, x, baseline=small, runs=100, min_seconds=0.0)
    assert 2.5 < result["latency_ratio"] < 8
    assert result["latency_ratio_iqr"] >= 0
    assert result["runs"] >= 100
    assert "latency_ratio" not in runtime.run(small, x, **FAST)


def test_a_missing_file_is_the_callers_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tflite"):
        runtime.run(tmp_path / "none.tflite", np.ones((1, 1)))


def test_the_worker_runs_alone_with_relative_paths(dense, tmp_path):
    """As on a board: a folder with the script, the file, the samples and the request."""
    model, file, x = dense
    for source, name in ((file, file.name), (devices.WORKER, "worker.py")):
        (tmp_path / name).write_bytes(source.read_bytes())
    np.save(tmp_path / "x.npy", x[:4])
    request = {"models": [file.name], "inputs": {"input_0": "x.npy"}, "result": "result.json"}
    request |= {"outputs": ".", "threads": 1, "max_seconds": 1.0, "workers": 2} | FAST
    (tmp_path / "request.json").write_text(json.dumps(request))
    code = f"import runpy, sys; sys.argv = ['worker.py', r'{tmp_path / 'request.json'}']\n"
    code += f"runpy.run_path(r'{tmp_path / 'worker.py'}', run_name='__main__')\n"
    code += "assert not {'tfprune', 'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "ok"
    outputs = np.load(tmp_path / "output_0.npy")
    np.testing.assert_allclose(outputs, np.asarray(model(x[:4])), atol=1e-6)
    assert not list(tmp_path.glob("*.partial"))
