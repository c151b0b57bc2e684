"""Files run by this machine's own LiteRT on an emulated processor without AVX."""

import platform

import numpy as np
import pytest

from tfprune.measurement import devices, runtime


def test_outputs_are_those_of_keras_and_of_this_machine(nehalem, small):
    model, file, x = small
    result = runtime.run(file, x, device=nehalem)
    assert result["status"] == "ok"
    assert result["machine"] == "x86_64"
    np.testing.assert_allclose(result["outputs"][0], np.asarray(model(x)), atol=1e-6)
    local = runtime.run(file, x, warmup=1, runs=1, min_seconds=0.0)
    np.testing.assert_allclose(result["outputs"][0], local["outputs"][0], atol=1e-6)
    assert result["runtime"] == local["runtime"]


def test_four_times_the_work_is_four_times_the_baseline(nehalem, stacks):
    once, four_times, x = stacks
    result = runtime.run(four_times, x, device=nehalem, baseline=once)
    assert 2.5 < result["latency_ratio"] < 6


def test_a_mobilenet_with_few_weights_is_run_sparse(nehalem, sparse_mobilenet):
    model, files, x = sparse_mobilenet
    result = runtime.run(files["float32_sparse"], x, device=nehalem, baseline=files["float32"])
    assert result["latency_ratio"] < 0.6
    expected = np.asarray(model(x))
    assert expected.std(0).max() > 1e-3
    np.testing.assert_allclose(result["outputs"][0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_a_crash_of_the_emulated_program_names_its_signal(nehalem, tmp_path, monkeypatch, name):
    script = tmp_path / "crash.py"
    script.write_text(f"import os, signal\nos.kill(os.getpid(), signal.{name})")
    monkeypatch.setattr(devices, "WORKER", script)
    file = tmp_path / "any.tflite"
    file.touch()
    result = runtime.run(file, np.ones((1, 1)), device=nehalem)
    assert result["status"] == "failed"
    assert f"crashed: killed by {name}" in result["reason"]


def test_elsewhere_than_on_x86_it_is_not_there(monkeypatch):
    device = devices.get("nehalem")
    assert (device.name, device.emulated, device.samples) == ("nehalem", True, 16)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(OSError, match="'nehalem' is there on x86-64 Linux only"):
        device.check()


def test_without_qemu_and_debian_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OSError, match=r"apt-get install qemu-user|x86-64 Linux only"):
        devices.get("nehalem").check()
    assert not [path for path in tmp_path.glob("cache/tfprune/*") if path.is_dir()]
