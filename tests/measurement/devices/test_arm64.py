"""Files run by the aarch64 LiteRT on an emulated Arm processor."""

import importlib.metadata
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfprune
from tests.measurement.devices.conftest import save, sparsify
from tfprune.measurement import devices, runtime
from tfprune.measurement.devices import _sandbox
from tfprune.measurement.devices import arm64 as module
from tfprune.tflite import convert, flatbuffer

L = keras.layers


def test_outputs_are_those_of_keras_and_of_this_machine(arm64, small):
    model, file, x = small
    result = runtime.run(file, x, device=arm64)
    assert result["status"] == "ok"
    assert result["machine"] == "aarch64"
    assert result["runtime"] == f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    np.testing.assert_allclose(result["outputs"][0], np.asarray(model(x)), atol=1e-6)
    local = runtime.run(file, x, warmup=1, runs=1, min_seconds=0.0)
    np.testing.assert_allclose(result["outputs"][0], local["outputs"][0], atol=1e-6)


def test_four_times_the_work_is_four_times_the_baseline(arm64, stacks):
    once, four_times, x = stacks
    result = runtime.run(four_times, x, device=arm64, baseline=once)
    assert 2.5 < result["latency_ratio"] < 6
    assert "outputs" in result


def test_a_mobilenet_with_few_weights_is_run_sparse(arm64, sparse_mobilenet):
    model, files, x = sparse_mobilenet
    result = runtime.run(files["float32_sparse"], x, device=arm64, baseline=files["float32"])
    assert result["latency_ratio"] < 0.6
    assert result["sparse_tensors"] > 10
    expected = np.asarray(model(x))
    assert expected.std(0).max() > 1e-3
    np.testing.assert_allclose(result["outputs"][0], expected, atol=1e-5)


def test_what_the_runtime_refuses_there_fails_with_its_words_and_is_not_exported(arm64, tmp_path):
    """XNNPACK's sparse kernels can't take a 1x1 convolution behind the global pooling."""
    layers = [L.ZeroPadding2D(1), L.Conv2D(16, 3, strides=2), L.Conv2D(64, 1), L.ReLU()]
    head = [L.GlobalAveragePooling2D(keepdims=True), L.Conv2D(16, 1), L.Flatten()]
    model = keras.Sequential([keras.Input((16, 16, 3)), *layers, *head])
    sparsify(layers[2])
    sparsify(head[1])
    x = np.ones((2, 16, 16, 3), "float32")
    dense = save(tmp_path / "dense.tflite", model, x, "float32")
    file = tmp_path / "head.tflite"
    file.write_bytes(flatbuffer.write(convert.without_zeros(dense.read_bytes())))
    result = runtime.run(file, x, device=arm64)
    assert result["status"] == "failed"
    assert "reshape" in result["reason"]
    names = ["float32_sparse"]
    out = tmp_path / "out"
    table = tfprune.export(model, out, variants=names, devices=[arm64], evaluation=(x,))
    assert table.loc[0, "status"] == "ok"
    assert "keeps dimensions" in table.loc[0, "note"]
    assert any("keeps dimensions" in kernel["reason"] for kernel in table.attrs["storage"])


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_a_crash_of_the_emulated_program_names_its_signal(arm64, tmp_path, monkeypatch, name):
    script = tmp_path / "crash.py"
    script.write_text(f"import os, signal\nos.kill(os.getpid(), signal.{name})")
    monkeypatch.setattr(devices, "WORKER", script)
    file = tmp_path / "any.tflite"
    file.touch()
    result = runtime.run(file, np.ones((1, 1)), device=arm64)
    assert result["status"] == "failed"
    assert f"crashed: killed by {name}" in result["reason"]


def test_the_runtime_sees_the_cpu_that_is_emulated(arm64, tmp_path):
    """What the file for the runtime says of the CPU is what the emulator's own register says."""
    code = (
        "import ctypes, mmap, struct\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        # mrs x0, midr_el1; ret
        "code.write(struct.pack('<II', 0xD5380000, 0xD65F03C0))\n"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "register = ctypes.CFUNCTYPE(ctypes.c_uint64)(address)()\n"
        "fields = dict(line.split('\\t: ') for line in open('/proc/cpuinfo') if line.strip())\n"
        "assert int(fields['CPU implementer'], 16) == register >> 24\n"
        "assert int(fields['CPU variant'], 16) == register >> 20 & 15\n"
        "assert int(fields['CPU part'], 16) == register >> 4 & 0xFFF, hex(register)\n"
        "assert int(fields['CPU revision']) == register & 15\n"
        "assert int(fields['processor']) == 3\n"
    )
    arm64.check()
    for cpu in ("cortex-a53", "cortex-a72", "cortex-a76"):
        command = module._python(arm64._sandbox(), tmp_path / cpu, cpu)
        subprocess.run([*command, "-c", code], check=True)


def test_another_cpu_takes_other_kernels_to_the_same_outputs(arm64, small):
    model, file, x = small
    result = runtime.run(file, x, device=devices.get("arm64", cpu="cortex-a76"))
    np.testing.assert_allclose(result["outputs"][0], np.asarray(model(x)), atol=1e-6)


def test_it_is_emulated_and_runs_few_samples():
    device = devices.get("arm64", python="python3", cpu=None)
    assert (device.name, device.cpu, device.emulated) == ("arm64", "cortex-a53", True)
    assert device.samples == 16
    with pytest.raises(ValueError, match="takes no address"):
        devices.get("arm64:board")
    with pytest.raises(ValueError, match=r"Did you mean .*cortex-a72"):
        devices.get("arm64", cpu="cortex-a27")


def stand_ins(folder, **programs):
    """Puts programs of shell code into a folder and returns it."""
    folder.mkdir()
    for name, code in programs.items():
        program = folder / name.replace("_", "-", 1)
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, where nothing may be left by what fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    assert not [path for path in (tmp_path / "cache/tfprune").iterdir() if path.is_dir()]


@pytest.mark.usefixtures("cache")
def test_without_qemu_and_debian_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(stand_ins(tmp_path / "bin")))
    for call in (devices.get("arm64").check, lambda: runtime.run(__file__, [], device="arm64")):
        with pytest.raises(OSError, match=r"'arm64'.*apt-get install qemu-user.*no apt-get"):
            call()


@pytest.mark.usefixtures("cache")
def test_packages_that_cant_be_had_are_named(tmp_path, monkeypatch):
    apt = 'case "$*" in *update) ;; *) echo "E: no such host" >&2; exit 100;; esac'
    programs = stand_ins(tmp_path / "bin", qemu_aarch64="", apt_get=apt, dpkg_deb="")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(OSError, match=r"'arm64'.*libstdc.*E: no such host.*is there a network"):
        devices.get("arm64").check()


@pytest.mark.usefixtures("cache")
def test_wheels_that_cant_be_had_are_named(tmp_path, monkeypatch):
    def unpack(packages, folder, *, architecture):
        (folder / "usr/bin").mkdir(parents=True)
        (folder / "usr/bin/python3").symlink_to("python3.11")

    programs = stand_ins(
        tmp_path / "bin", qemu_aarch64="", python='echo "$*: no wheels" >&2; exit 1'
    )
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setattr(_sandbox, "unpack", unpack)
    with pytest.raises(OSError, match=r"--python-version 3\.11 .*no wheels.*is there a network"):
        devices.get("arm64").check()


@pytest.mark.slow
@pytest.mark.usefixtures("arm64")
def test_a_sandbox_from_nothing_by_two_processes_at_once(small, tmp_path):
    """Downloads 70 MB: packages, wheels, and the emulator, which is taken for absent."""
    code = (
        "import shutil\n"
        "which = shutil.which\n"
        "shutil.which = lambda name: None if name.startswith('qemu') else which(name)\n"
        "import logging, sys\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "from tfprune.measurement import devices\n"
        "devices.get('arm64').check()\n"
        "from tfprune.measurement import runtime\n"
        "import numpy as np\n"
        "result = runtime.run(sys.argv[1], np.load(sys.argv[2]), device='arm64')\n"
        "assert result['machine'] == 'aarch64', result\n"
    )
    _, file, x = small
    np.save(tmp_path / "x.npy", x)
    cache = tmp_path / "cache"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, file, tmp_path / "x.npy"],
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert "".join(said).count("building the sandbox") == 1
    assert "".join(said).count("qemu-user-static") == 1
    folders = {path.name for path in (cache / "tfprune").iterdir() if path.is_dir()}
    version = importlib.metadata.version("ai-edge-litert")
    assert folders == {f"arm64-{version}", "qemu-user"}
