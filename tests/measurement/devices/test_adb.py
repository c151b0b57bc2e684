"""`adb:serial` against a stand-in for adb, with stand-ins for the tool that print as it does."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

from tfprune.measurement import devices, runtime
from tfprune.measurement.devices import _benchmark_model, _interface
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-ins are scripts")

RNG = np.random.default_rng(0)
FAST = {"warmup": 1, "runs": 3, "min_seconds": 0.0}

# Keeps the device's files in $PHONE, and there a log of its calls. What it should do otherwise is
# in phone.json: "devices" {serial: state}, and "fail" [start of a call's last part, what happens].
ADB = f"""#!{sys.executable} -SE
import json, os, shutil, subprocess, sys
phone = os.environ["PHONE"]
with open(phone + "/phone.json") as file:
    config = json.load(file)
with open(phone + "/log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)
if sys.argv[1] == "devices":
    print("* daemon started successfully")
    print("List of devices attached")
    for serial, state in config["devices"].items():
        print(serial + "\\t" + state)
    print()
    sys.exit()
flag, serial, kind, *rest = sys.argv[1:]
assert flag == "-s"
if config["devices"].get(serial) != "device":
    fail(f"adb: device '{{serial}}' not found")
for part, words in config.get("fail", []):
    if any(part in word for word in rest):
        fail(words)
tmp = phone + "/tmp"
if kind == "shell":
    script = rest[0].replace("/data/local/tmp", tmp)
    env = dict(os.environ, PATH=phone + "/bin:" + os.environ["PATH"])
    done = subprocess.run(["sh", "-c", script], env=env, stdout=subprocess.PIPE)
    sys.stdout.write(done.stdout.decode().replace("\\n", config.get("line", "\\n")))
    sys.exit(config.get("code", done.returncode))
source, target = (path.replace("/data/local/tmp", tmp) for path in rest)
try:
    shutil.copy(source, target)
except OSError:
    fail(f"adb: error: failed to stat remote object '{{rest[0]}}': No such file or directory")
print(f"{{rest[0]}}: 1 file {{kind}}ed. 12.3 MB/s (1234 bytes in 0.001s)")
"""

# The format of a recent version. A file takes as many microseconds as it has bytes.
NEW = f"""#!{sys.executable} -SE
import os, sys
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
us = os.path.getsize(flags["graph"])
print(f'''INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [{{flags["num_runs"]}}]
INFO: Graph: [{{flags["graph"]}}]
INFO: Signature to run: []
INFO: Use xnnpack: [1]
INFO: Loaded model {{flags["graph"]}}
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: The input model file size (MB): {{us / 1e6}}
INFO: Initialized session in 4.25ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 30 seconds.
INFO: count=9 first=9999 curr=9000 min=8888 max=9999 avg=9123.4 std=345 p5=8888 median=9100 p95=9999

INFO: Running benchmark for at least 3 iterations and at least 0 seconds but terminate if \
exceeding 30 seconds.
INFO: count=50 first={{us + 3}} curr={{us}} min={{us - 2}} max={{us + 9}} avg={{us + 1.5}} std=2 \
p5={{us - 1}} median={{us}} p95={{us + 7}}

INFO: Inference timings in us: Init: 4250, First inference: 9999, Warmup (avg): 9123.4, Inference \
(avg): {{us + 1.5}}
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your \
discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=2.5 overall=3.75''', flush=True)
"""

PROFILE = """\
INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t                             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t                         AllocateTensors\t    0.016\t    0.016\t100.000%\t100.000%\t\
     0.000\t        2\tAllocateTensors/0

Timings (microseconds): count=1 curr=16
Memory (bytes): count=0
1 nodes observed



INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t                             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t           Convolution (NHWC, F32) IGEMM\t    0.300\t    0.250\t 50.000%\t 50.000%\t\
     0.000\t        1\tDelegate/Convolution (NHWC, F32) IGEMM:0
\t            Convolution (NHWC, F32) GEMM\t    0.120\t    0.050\t 40.000%\t 90.000%\t\
     0.000\t        4\tDelegate/Convolution (NHWC, F32) GEMM:1
\t                           CONCATENATION\t    0.040\t    0.050\t 10.000%\t100.000%\t\
     0.000\t        1\t[concat, concat:1]:2

============================== Top by Computation Time ==============================
\t                             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t           Convolution (NHWC, F32) IGEMM\t    0.300\t    0.250\t 50.000%\t 50.000%\t\
     0.000\t        1\tDelegate/Convolution (NHWC, F32) IGEMM:0

Number of nodes executed: 3
============================== Summary by node type ==============================
\t                             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t\
  [mem KB]\t[times called]
\t           Convolution (NHWC, F32) IGEMM\t        1\t     0.250\t    50.000%\t    50.000%\t\
     0.000\t        1

Timings (microseconds): count=20 first=500 curr=500 min=480 max=520 avg=500 std=9
Memory (bytes): count=0
3 nodes observed
"""

# With a table of its own for the delegate (TensorFlow 2.4 to 2.13).
MIDDLE = """\
STARTING!
Log parameter values verbosely: [0]
Graph: [model_0.tflite]
Loaded model model_0.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
XNNPACK delegate created.
Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate.
The input model file size (MB): 0.541472
Initialized session in 18.738ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding \
150 seconds.
count=6 first=140706 curr=74599 min=74599 max=140706 avg=85791.2 std=24559

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding \
150 seconds.
count=50 first=74456 curr=74516 min=73909 max=75323 avg=74481.6 std=268

Inference timings in us: Init: 18738, First inference: 140706, Warmup (avg): 85791.2, Inference \
(avg): 74481.6
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to \
the actual memory footprint of the model at runtime. Take the information at your discretion.
Peak memory footprint (MB): init=6.5 overall=64.75
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t ModifyGraphWithDelegate\t            0.000\t 1450.744\t 1450.744\t100.000%\t100.000%\t\
 62364.000\t        1\tModifyGraphWithDelegate/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t   TfLiteXNNPackDelegate\t            0.000\t    3.000\t    3.000\t 75.000%\t 75.000%\t\
     0.000\t        1\t[x/Relu6]:31
\t                 SOFTMAX\t            3.000\t    1.000\t    1.000\t 25.000%\t100.000%\t\
     0.000\t        1\t[Identity]:30

Timings (microseconds): count=50 first=74456 curr=74516 min=73909 max=75323 avg=74481.6 std=268
Memory (bytes): count=0
2 nodes observed

Delegate internal: 
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t        DelegateOpInvoke\t            0.000\t    2.000\t    2.000\t 66.667%\t 66.667%\t\
     0.000\t        1\tDelegate/Convolution (NHWC, F32) IGEMM:0
\t        DelegateOpInvoke\t            0.000\t    1.000\t    1.000\t 33.333%\t100.000%\t\
     0.000\t        1\tDelegate/Max Pooling (NHWC, F32):1

"""

OLD = """\
STARTING!
Num runs: [50]
Warmup runs: [1]
Graph: [/data/local/tmp/model.tflite]
Loaded model /data/local/tmp/model.tflite
resolved reporter
Initialized session in 38.467ms
Running benchmark for 1 iterations 
count=1 curr=83235

Running benchmark for 50 iterations 
count=50 first=79449 curr=81350 min=77385 max=88213 avg=79732 std=1929

============================== Run Order ==============================
\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t\
  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t    0.000\t    4.300\t    4.500\t  0.112%\t  0.112%\t\
     0.000\t        0\t[conv/Relu6]
\t       DEPTHWISE_CONV_2D\t    4.500\t    1.500\t    1.500\t  0.038%\t  0.150%\t\
     0.000\t        0\t[depthwise/Relu6]

Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9
"""

# LiteRT's tool for CompiledModel.
COMPILED = """\
INFO: STARTING!
INFO: Initialized session in 5.6ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 150 seconds.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 \
p5=1238753 median=1239807 p95=1247415

INFO: [benchmark_litert_model.h:69] 
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:70] Model initialization: 5.60 ms
INFO: [benchmark_litert_model.h:103] Overall footprint:    12.50 MB
"""


def test_figures_of_a_recent_version():
    text = "INFO: Initialized session in 16.599ms.\n"
    text += "INFO: count=70 first=8 curr=6 min=6 max=8 avg=7 std=0 p5=6 median=7 p95=8\n\n"
    text += "INFO: count=50 first=6449 curr=6510 min=6400 max=6600 avg=6479.5 std=30 "
    text += "p5=6410 median=6470 p95=6590\n\n"
    text += "INFO: Memory footprint delta from the start of the tool (MB): init=8.5 overall=10.5\n"
    assert _benchmark_model.figures(text) == {
        "runs": 50,
        "init_ms": 16.599,
        "latency_ms_mean": 6.4795,
        "latency_ms_std": 0.030,
        "latency_ms_min": 6.4,
        "latency_ms_max": 6.6,
        "latency_ms_p5": 6.41,
        "latency_ms_median": 6.47,
        "latency_ms_p95": 6.59,
        "peak_memory_bytes": 10.5 * 2**20,
    }


def test_figures_of_other_versions():
    middle = _benchmark_model.figures(MIDDLE)
    assert (middle["runs"], middle["init_ms"], middle["latency_ms_mean"]) == (50, 18.738, 74.4816)
    assert middle["peak_memory_bytes"] == 64.75 * 2**20
    assert "latency_ms_median" not in middle
    old = _benchmark_model.figures(OLD)
    assert (old["runs"], old["init_ms"], old["latency_ms_mean"]) == (50, 38.467, 79.732)
    assert old["peak_memory_bytes"] is None
    compiled = _benchmark_model.figures(COMPILED)
    assert (compiled["latency_ms_mean"], compiled["latency_ms_median"]) == (1240.27, 1239.807)
    assert compiled["peak_memory_bytes"] == 12.5 * 2**20


@pytest.mark.parametrize("line", ["count=1 curr=80", "INFO: count=5 curr=80(all same)"])
def test_equal_times_have_a_median_whatever_is_printed(line):
    found = _benchmark_model.figures(f"count=1 curr=99\n\n{line}\n")
    assert [found[f"latency_ms_{name}"] for name in ("median", "mean", "min", "max")] == [0.08] * 4
    assert found["latency_ms_std"] == 0.0


@pytest.mark.parametrize("text", ["", "INFO: count=3 curr=7 median=7\nERROR: failed", "nonsense"])
def test_without_the_end_of_the_timing_there_are_no_figures(text):
    assert _benchmark_model.figures(text) is None


def test_a_profile_has_the_time_of_an_inference_and_shares_of_all():
    rows = _benchmark_model.ops(PROFILE)
    assert [row["op"] for row in rows] == [
        "Convolution (NHWC, F32) IGEMM",
        "Convolution (NHWC, F32) GEMM",
        "CONCATENATION",
    ]
    # The second is called four times.
    assert [row["ms"] for row in rows] == pytest.approx([0.25, 0.2, 0.05])
    assert [row["share"] for row in rows] == pytest.approx([0.5, 0.4, 0.1])
    assert rows[2]["name"] == "[concat, concat:1]:2"


def test_a_delegates_own_table_replaces_its_row():
    rows = _benchmark_model.ops(MIDDLE)
    assert {row["op"]: row["share"] for row in rows} == {
        "SOFTMAX": 0.25,
        "Convolution (NHWC, F32) IGEMM": 0.5,
        "Max Pooling (NHWC, F32)": 0.25,
    }


def test_an_early_versions_profile():
    rows = _benchmark_model.ops(OLD)
    assert [(row["op"], row["ms"], row["share"]) for row in rows] == [
        ("CONV_2D", 4.5, 0.75),
        ("DEPTHWISE_CONV_2D", 1.5, 0.25),
    ]
    assert _benchmark_model.ops(COMPILED) == []


def save(path, model, x, variant="float32", calibration=None):
    trace = convert.trace(model, x)
    path.write_bytes(convert.convert(trace, VARIANTS[variant], calibration))
    return path


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Returns a model of two inputs and outputs, its file, and samples."""
    keras.utils.set_random_seed(0)
    small, large = keras.Input((2, 3), name="z"), keras.Input((5,), name="a")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(small), large])
    outputs = [keras.layers.Dense(3)(joined), keras.layers.Dense(4, activation="softmax")(large)]
    model = keras.Model([small, large], outputs)
    x = [RNG.normal(size=(3, *part)).astype("float32") for part in ((2, 3), (5,))]
    folder = tmp_path_factory.mktemp("a folder's $(id)")
    return model, save(folder / 'a "file"; exit.tflite', model, x), x


class Phone:
    def __init__(self, folder):
        self.folder = folder
        (folder / "tmp").mkdir()
        (folder / "bin").mkdir()
        self.script(folder / "bin" / "getprop", "#!/bin/sh\necho arm64-v8a\n")
        self.set()

    def set(self, **config):
        config = {"devices": {"R58M'42 x": "device"}} | config
        (self.folder / "phone.json").write_text(json.dumps(config))

    def script(self, path, text):
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def device(self, tool, address="", **options):
        """Returns the device with a tool of the given text."""
        path = self.script(self.folder / "a tool's 'name'", tool)
        return devices.get(f"adb:{address}", benchmark_model=path, **options)

    def calls(self):
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines()]

    def left(self):
        """Returns the files there, and the processes that run from there."""
        found = [path.name for path in (self.folder / "tmp").iterdir()]
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                inside = pathlib.Path(os.readlink(place / "cwd")).is_relative_to(self.folder)
            except OSError:
                continue
            found += [place.name] if inside else []
        return found


@pytest.fixture
def phone(tmp_path, monkeypatch):
    (tmp_path / "phone").mkdir()
    made = Phone(tmp_path / "phone")
    (tmp_path / "path").mkdir()
    made.script(tmp_path / "path" / "adb", ADB)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PHONE", str(made.folder))
    return made


# As NEW, but --enable_op_profiling and --output_filepath do something, the latter by LiteRT.
WITH_PROFILE = NEW + f"if 'enable_op_profiling' in flags:\n    print({PROFILE!r})\n"
WITH_OUTPUTS = WITH_PROFILE.replace(" -SE", "", 1) + textwrap.dedent(
    """
    if "output_filepath" in flags:
        import numpy as np
        from ai_edge_litert.interpreter import Interpreter

        model = Interpreter(model_path=flags["graph"])
        model.allocate_tensors()
        # Not by name: the tool takes inputs in the order of the file.
        names = flags["input_layer"].split(",")
        shapes = [list(map(int, part.split(","))) for part in flags["input_layer_shape"].split(":")]
        files = dict(part.split(":") for part in flags["input_layer_value_files"].split(","))
        for name, shape, tensor in zip(names, shapes, model.get_input_details(), strict=True):
            assert shape == tensor["shape"].tolist()
            value = np.fromfile(files[name], tensor["dtype"])
            model.set_tensor(tensor["index"], value.reshape(shape))
        model.invoke()
        with open(flags["output_filepath"], "wb") as file:
            for tensor in model.get_output_details():
                file.write(model.get_tensor(tensor["index"]).tobytes())
    """
)


def test_a_file_is_run_timed_and_profiled(phone, dense):
    model, file, x = dense
    result = runtime.run(file, x, device=phone.device(WITH_OUTPUTS), **FAST)
    size = file.stat().st_size
    assert result["status"] == "ok"
    for found, expected in zip(result["outputs"], model(x), strict=True):
        np.testing.assert_allclose(found, np.asarray(expected), atol=1e-6)
    assert result["latency_ms_median"] == pytest.approx(size / 1e3)
    assert result["latency_ms_min"] == pytest.approx((size - 2) / 1e3)
    assert result["latency_ms_mean"] == pytest.approx((size + 1.5) / 1e3)
    assert result["init_ms"] == 4.25
    assert result["peak_memory_bytes"] == 3.75 * 2**20
    assert (result["runs"], result["samples"], result["threads"]) == (50, 3, 1)
    assert result["machine"] == os.uname().machine
    assert result["ops"][2]["op"] == "CONCATENATION"
    assert "latency_ratio" not in result
    assert phone.left() == []


def test_full_integer_files_get_and_return_floats(phone, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = RNG.normal(size=(100, 4)).astype("float32")
    file = save(tmp_path / "int8.tflite", model, x, "int8_int_io", [x])
    there = runtime.run(file, x[:2], device=phone.device(WITH_OUTPUTS), **FAST)
    here = runtime.run(file, x[:2], **FAST)
    np.testing.assert_array_equal(there["outputs"][0], here["outputs"][0])


def test_files_take_turns_and_the_ratio_is_that_of_their_times(phone, dense, tmp_path):
    _, file, x = dense
    twice = tmp_path / "twice.tflite"
    twice.write_bytes(file.read_bytes() + bytes(file.stat().st_size))
    device = phone.device(NEW, taskset="0x1")
    result = runtime.run(twice, x, device=device, baseline=file, runs=50, outputs=False)
    assert result["latency_ratio"] == pytest.approx(2.0)
    assert result["latency_ratio_iqr"] == pytest.approx(0.0)
    assert result["runs"] == 150
    scripts = [call[-1] for call in phone.calls() if "--graph=" in call[-1]]
    graphs = [script.split("--graph=")[1].split()[0] for script in scripts]
    assert graphs == ["model_0.tflite", "model_1.tflite"] * 3 + ["model_0.tflite"]  # and a profile
    for flag in ("--num_threads=1", "--use_xnnpack=true", "--num_runs=17", "--warmup_runs=10"):
        assert flag in scripts[0]
    assert "taskset 0x1 ./benchmark_model" in scripts[0]
    assert "enable_op_profiling" not in "".join(scripts[:6])


def test_a_version_without_outputs_and_medians_gives_what_it_has(phone, dense):
    tool = f"#!/bin/sh\ncat <<'END'\n{MIDDLE}\nEND\n"
    # Before Android 7 the exit code was lost, and lines ended as on a terminal.
    phone.set(code=0, line="\r\n")
    device = phone.device(tool)
    result = runtime.run(dense[1], dense[2], device=device, baseline=dense[1], **FAST)
    assert result["status"] == "ok"
    assert "outputs" not in result
    assert "latency_ms_median" not in result
    assert result["latency_ms_mean"] == 74.4816
    assert result["latency_ratio"] == 1.0
    assert result["ops"][0]["op"] == "SOFTMAX"


def test_serials_and_paths_reach_no_shell_unquoted(phone, dense):
    phone.device(NEW, address="R58M'42 x").check()
    result = runtime.run(dense[1], dense[2], device=phone.device(NEW), outputs=False, **FAST)
    assert result["status"] == "ok"
    for call in phone.calls()[1:]:
        assert call == ["devices"] or call[:2] == ["-s", "R58M'42 x"]
        if "shell" in call:
            # What is there has names of our own.
            assert not any(name in call[3] for name in ("R58M", "a tool", "exit.tflite"))
    pushed = [call[3] for call in phone.calls() if call[2:3] == ["push"]]
    assert pushed[0].endswith("/a tool's 'name'")
    assert pushed[1].endswith('/a "file"; exit.tflite')


STATES = {
    "unauthorized": "allow USB debugging",
    "offline": "adb reconnect offline",
    "no permissions (user in plugdev group; are your udev rules wrong?); see [http://x]": "access",
    "recovery": "adb devices",
}


@pytest.mark.parametrize("state", STATES)
def test_a_device_that_is_not_ready_says_what_to_do(phone, dense, state):
    phone.set(devices={"R58": state})
    device = phone.device(NEW, address="R58")
    with pytest.raises(OSError, match=rf"'adb:R58' is not ready.*{STATES[state]}"):
        device.check()
    with pytest.raises(OSError, match="not ready"):
        runtime.run(dense[1], dense[2], device=device)


def test_a_device_is_chosen_if_it_is_the_only_one(phone):
    phone.set(devices={})
    with pytest.raises(OSError, match=r"not connected \(connected: none\)"):
        phone.device(NEW).check()
    phone.set(devices={"one": "device", "two": "offline"})
    with pytest.raises(OSError, match=r"several \(one, two\); write adb:SERIAL"):
        phone.device(NEW).check()
    with pytest.raises(OSError, match=r"not connected \(connected: one, two\)"):
        phone.device(NEW, address="three").check()
    phone.device(NEW, address="one").check()


def test_options_are_checked(phone, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="needs the option benchmark_model"):
        devices.get("adb:")
    with pytest.raises(ValueError, match="serial"):
        devices.get("adb:-e", benchmark_model="x")
    with pytest.raises(ValueError, match="serial"):
        devices.get("adb:a\nb", benchmark_model="x")
    with pytest.raises(ValueError, match="hexadecimal"):
        devices.get("adb:", benchmark_model="x", taskset="f0; reboot")
    with pytest.raises(FileNotFoundError, match="no benchmark_model at 'none'"):
        devices.get("adb:", benchmark_model="none").check()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="needs the command  adb  of Android's platform tools"):
        phone.device(NEW).check()
    device = phone.device(NEW, address="R58")
    assert (device.name, device.emulated, device.samples) == ("adb:R58", False, 4)


def test_a_device_that_goes_offline_in_the_middle_is_an_error(phone, dense, caplog):
    phone.set(fail=[["--graph=", "error: device offline"], ["rm -rf", "error: device offline"]])
    with pytest.raises(OSError, match="connection was lost: error: device offline"):
        runtime.run(dense[1], dense[2], device=phone.device(NEW))
    assert "may be left behind" in caplog.text


def test_a_full_device_is_an_error(phone, dense):
    words = "adb: error: failed to copy 'm' to 'n': remote write failed: No space left on device"
    phone.set(fail=[["model_0.tflite", words]])
    with pytest.raises(OSError, match=r"no space is left; make some in /data.*No space left"):
        runtime.run(dense[1], dense[2], device=phone.device(NEW))
    assert phone.left() == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("/system/bin/sh: ./benchmark_model: not executable: 64-bit ELF file", 126),
        ('CANNOT LINK EXECUTABLE "./benchmark_model": library "libc++_shared.so" not found', 1),
    ],
)
def test_a_tool_for_another_processor_is_an_error(phone, dense, words, code):
    tool = f"#!/bin/sh\necho '{words}' >&2\nexit {code}\n"
    with pytest.raises(OSError, match=r"take the tool that is built for arm64-v8a: .*ELF|LINK"):
        runtime.run(dense[1], dense[2], device=phone.device(tool))
    assert phone.left() == []


@pytest.mark.parametrize(
    ("tool", "reasons"),
    [
        ("echo 'FATAL: kernel' >&2\nkill -ABRT $$", ("SIGABRT", "FATAL: kernel")),
        ("kill -SEGV $$", ("SIGSEGV",)),
        (
            "echo INFO: STARTING!\necho 'ERROR: Failed to construct interpreter' >&2\n"
            "echo 'ERROR: Benchmarking failed.' >&2\nexit 1",
            ("code 1", "Failed to construct interpreter | ERROR: Benchmarking failed."),
        ),
        ("echo 'Usage: benchmark_model'", ("printed no times", "Usage")),
    ],
)
def test_a_tool_that_fails_makes_the_file_fail(phone, dense, tool, reasons):
    result = runtime.run(dense[1], dense[2], device=phone.device(f"#!/bin/sh\n{tool}\n"))
    assert result["status"] == "failed"
    for reason in reasons:
        assert reason in result["reason"]
    assert phone.left() == []


def test_a_profile_that_fails_is_only_missing(phone, dense, caplog):
    tool = NEW + "if 'enable_op_profiling' in flags:\n    os.abort()\n"
    result = runtime.run(dense[1], dense[2], device=phone.device(tool), outputs=False, **FAST)
    assert result["status"] == "ok"
    assert result["ops"] == []
    assert "no profile" in caplog.text


def test_outputs_of_a_wrong_length_make_the_file_fail(phone, dense):
    tool = NEW + "if 'output_filepath' in flags:\n    open('outputs', 'w').write('short')\n"
    result = runtime.run(dense[1], dense[2], device=phone.device(tool), **FAST)
    assert result["status"] == "failed"
    assert "outputs take 28 bytes, and 5 came back" in result["reason"]


HANG = "#!/bin/sh\ntouch started\nexec sleep 600\n"


def test_a_hang_is_ended(phone, dense):
    device = phone.device(HANG)
    result = runtime.run(dense[1], dense[2], device=device, timeout=0.5, max_seconds=0.1)
    assert result["status"] == "failed"
    assert "no end after 0.7 s" in result["reason"]
    assert phone.left() == []


def test_ctrl_c_leaves_nothing_there(phone, dense, tmp_path):
    # What runs in the background may have been told to ignore the signal, and hand that down.
    code = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from tfprune.measurement import devices, runtime\nimport numpy as np\n"
    code += "device = devices.get('adb:', benchmark_model=sys.argv[1])\n"
    code += "x = [np.ones((1, 2, 3), 'float32'), np.ones((1, 5), 'float32')]\n"
    code += "runtime.run(sys.argv[2], x, device=device)\n"
    tool = phone.script(tmp_path / "hang", HANG)
    # As from a terminal: its group of processes gets the signal, adb too.
    child = subprocess.Popen(
        [sys.executable, "-c", code, tool, str(dense[1])],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 30
        while not list((phone.folder / "tmp").glob("*/started")):
            assert time.monotonic() < end
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGINT)
        assert b"KeyboardInterrupt" in child.communicate(timeout=30)[1]
    finally:
        child.kill()
    assert phone.left() == []


def test_samples_of_a_wrong_shape_fail_with_both_shapes(phone, dense):
    x = [np.ones((2, 2, 2), "float32"), dense[2][1]]
    result = runtime.run(dense[1], x, device=phone.device(NEW))
    assert result["status"] == "failed"
    assert "[1, 2, 3]" in result["reason"]
    assert "[2, 2]" in result["reason"]


@pytest.mark.parametrize("content", [b"", b"not a model" * 50, b"\x1c\0\0\0TFL3" + b"\xff" * 99])
def test_a_corrupt_file_fails_before_it_is_sent(phone, tmp_path, content):
    file = tmp_path / "bad.tflite"
    file.write_bytes(content)
    result = runtime.run(file, np.ones((2, 3), "float32"), device=phone.device(NEW))
    assert result["status"] == "failed"
    assert "damaged or no .tflite file" in result["reason"]
    assert phone.left() == []


def test_a_truncated_file_fails_or_is_read_at_its_head(phone, dense, tmp_path):
    """Wherever it is cut, no other error comes of it."""
    content = dense[1].read_bytes()
    file = tmp_path / "cut.tflite"
    for length in range(0, len(content), 97):
        file.write_bytes(content[:length])
        try:
            _interface.read(file)
        except devices.Failed as failure:
            assert "damaged" in str(failure)


def test_the_interface_is_the_interpreters(dense):
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(model_path=str(dense[1]))
    found = _interface.read(dense[1])
    for ours, theirs in (
        (found.fed, model.get_input_details()),
        (found.left, model.get_output_details()),
    ):
        for tensor, expected in zip(ours, theirs, strict=True):
            assert tensor["name"] == expected["name"]
            assert tensor["index"] == expected["index"]
            assert tensor["dtype"] == expected["dtype"]
            assert tensor["quantization"] == expected["quantization"]
            assert tensor["shape"].tolist() == expected["shape"].tolist()
    runner = model.get_signature_runner()
    assert {n: t["index"] for n, t in found.inputs.items()} == {
        n: t["index"] for n, t in runner.get_input_details().items()
    }
    expected = runner.get_output_details()
    assert [t["index"] for t in found.outputs] == [expected[n]["index"] for n in sorted(expected)]
    assert math.prod(found.outputs[0]["shape"].tolist()) == 3
