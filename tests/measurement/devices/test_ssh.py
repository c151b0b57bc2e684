"""`ssh:user@host` against a real sshd on this machine."""

import ast
import getpass
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest

from tfprune.measurement import devices, runtime
from tfprune.measurement.devices import _agent, _channel
from tfprune.tflite import convert
from tfprune.tflite.variants import VARIANTS

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
FAST = {"warmup": 1, "runs": 3, "min_seconds": 0.0}


class Server:
    """An sshd of one's own, a configuration that gets into it, and where its files go."""

    def __init__(self, folder):
        self.folder, self.config, self.tmp = folder, folder / "config", folder / "tmp"
        self.tmp.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for name in ("host", "user", "stranger"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(key, check=True)
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        known = f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}"
        (folder / "known").write_text(known)
        self.client(self.config)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPidFile none\n"
            f"PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            f"SetEnv TMPDIR={self.tmp}\n"
        )
        with (folder / "log").open("wb") as log:
            command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)

    def client(self, path, key="user", known="known"):
        path.write_text(
            f"IdentityFile {self.folder / key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder / known}\nGlobalKnownHostsFile /dev/null\n"
        )
        return str(path)

    def device(self, **options):
        options = {"python": sys.executable, "config": str(self.config)} | options
        return devices.get(f"ssh:{getpass.getuser()}@127.0.0.1:{self.port}", **options)

    def left(self):
        """Returns what is still there, folders and processes."""
        processes, mark = [], f"TMPDIR={self.tmp}".encode()
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                ours = mark in (place / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            processes += [place.name] if ours else []
        return sorted(path.name for path in self.tmp.iterdir()) + processes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH, server and client")
    if os.geteuid() == 0:
        try:
            pathlib.Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            pytest.skip(f"sshd as root needs /run/sshd: {error}")
    made = Server(tmp_path_factory.mktemp("ssh"))
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if made.process.poll() is None and probe.connect_ex(("127.0.0.1", made.port)) == 0:
                    break
            time.sleep(0.05)
        else:
            pytest.skip(f"sshd doesn't start here: {(made.folder / 'log').read_text()}")
        yield made
    finally:
        made.process.terminate()
        made.process.wait()


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Returns a model, its file, and samples."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, activation="softmax")])
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    file = tmp_path_factory.mktemp("dense") / "a file's name $(id).tflite"
    file.write_bytes(convert.convert(convert.trace(model, x), VARIANTS["float32"], None))
    return model, file, x


def fake_worker(monkeypatch, tmp_path, code):
    """Has `code` run there in place of the worker, on a machine that is not at fault."""
    script = tmp_path / "fake.py"
    script.write_text(
        "def find_runtime():\n    return 'fake', None\n\n"
        f"if __name__ == '__main__':\n{textwrap.indent(code, '    ')}"
    )
    monkeypatch.setattr(devices, "WORKER", script)


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_outputs_are_those_of_this_machine_and_nothing_is_left(server, dense):
    model, file, x = dense
    there = runtime.run(file, x, device=server.device(), baseline=file, **FAST)
    here = runtime.run(file, x, **FAST)
    assert there["status"] == "ok"
    np.testing.assert_array_equal(there["outputs"][0], here["outputs"][0])
    np.testing.assert_allclose(there["outputs"][0], np.asarray(model(x)), atol=1e-6)
    assert there["latency_ratio"] > 0
    assert there["latency_ms_median"] > 0
    assert there["samples"] == 40
    assert there["runtime"] == here["runtime"]
    assert server.left() == []


def test_check_is_content_with_a_device_that_has_all_it_needs(server):
    server.device().check()
    assert server.left() == []


def test_a_path_of_python_from_the_home_folder_and_a_command_are_found(server, dense, tmp_path):
    _, file, x = dense
    home = os.path.relpath(sys.executable, pathlib.Path.home())
    for python in (home, f"~/{home}"):
        result = runtime.run(file, x, device=server.device(python=python), **FAST)
        assert result["status"] == "ok"


def test_a_device_without_python_or_a_runtime_is_told_what_to_install(server, dense, tmp_path):
    with pytest.raises(OSError, match=r"no no-python there; the option python"):
        server.device(python="no-python").check()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = server.device(python=str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(OSError, match=r"pip install numpy ai-edge-litert"):
        bare.check()
    # The file is not to blame.
    with pytest.raises(OSError, match=r"No module named 'numpy'"):
        runtime.run(dense[1], dense[2], device=bare)
    site = next((tmp_path / "bare" / "lib").glob("python*/site-packages"))
    for package in ("numpy", "numpy.libs"):
        (site / package).symlink_to(pathlib.Path(np.__file__).parents[1] / package)
    with pytest.raises(OSError, match=r"no LiteRT runtime is installed"):
        runtime.run(dense[1], dense[2], device=bare)
    assert server.left() == []


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT"])
def test_a_crash_there_names_its_signal_and_last_words(server, dense, tmp_path, monkeypatch, name):
    code = "import os, signal, sys\nprint('ERROR: kernel', file=sys.stderr, flush=True)\n"
    fake_worker(monkeypatch, tmp_path, code + f"os.kill(os.getpid(), signal.{name})")
    result = runtime.run(dense[1], dense[2], device=server.device())
    assert result["status"] == "failed"
    assert name in result["reason"]
    assert "ERROR: kernel" in result["reason"]
    assert server.left() == []


def test_a_corrupt_file_fails_as_it_does_here(server, tmp_path):
    file = tmp_path / "bad.tflite"
    file.write_bytes(b"not a model" * 50)
    x = np.ones((2, 3), "float32")
    there = runtime.run(file, x, device=server.device(), **FAST)
    assert there["status"] == "failed"
    # Both name the file, which lies in other folders.
    assert there["reason"].split("'")[0] == runtime.run(file, x, **FAST)["reason"].split("'")[0]


def test_a_hang_there_is_ended(server, dense, tmp_path, monkeypatch):
    fake_worker(monkeypatch, tmp_path, "import time\nprint('loaded', flush=True)\ntime.sleep(60)")
    result = runtime.run(dense[1], dense[2], device=server.device(), timeout=0.5)
    assert result["status"] == "failed"
    assert "no progress for 0.5 s" in result["reason"]
    assert server.left() == []


def test_slow_progress_there_is_no_hang(server, dense, tmp_path, monkeypatch):
    code = "import json, time\nfor i in range(6):\n    print(i, flush=True)\n    time.sleep(0.3)\n"
    code += "open('result.json', 'w').write(json.dumps({'status': 'ok'}))"
    fake_worker(monkeypatch, tmp_path, code)
    assert runtime.run(dense[1], dense[2], device=server.device(), timeout=1.5)["status"] == "ok"


# What runs in the background may have been told to ignore ctrl-C, and hand that down.
CHILD = """
import signal, sys
from pathlib import Path
from tfprune.measurement import devices, runtime
signal.signal(signal.SIGINT, signal.default_int_handler)
config, port, user, worker, file, inputs = sys.argv[1:]
devices.WORKER = Path(worker)
device = devices.get(f"ssh:{user}@127.0.0.1:{port}", python=sys.executable, config=config)
runtime.run(file, Path(inputs), device=device)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_end_of_the_caller_leaves_nothing_there(server, dense, tmp_path, number):
    """Ctrl-C, and a death that nobody can clean up after."""
    started, worker = tmp_path / "started", tmp_path / "worker.py"
    worker.write_text(f"open({str(started)!r}, 'w').close()\nimport time\ntime.sleep(600)")
    np.save(tmp_path / "x.npy", dense[2])
    arguments = [server.config, server.port, getpass.getuser(), worker, dense[1], "x.npy"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(started.exists)
        assert len(server.left()) > 1
        child.send_signal(number)
        errors = child.communicate(timeout=30)[1]
    finally:
        child.kill()
    if number == signal.SIGINT:
        assert b"KeyboardInterrupt" in errors
    wait_until(lambda: server.left() == [])


def test_a_key_that_is_refused_is_told_how_to_install_it(server, dense, tmp_path):
    config = server.client(tmp_path / "config", key="stranger")
    device = server.device(config=config)
    hint = rf"ssh-copy-id -p {server.port} {getpass.getuser()}@127\.0\.0\.1: .*Permission denied"
    with pytest.raises(OSError, match=hint):
        device.check()
    with pytest.raises(OSError, match=hint):
        runtime.run(dense[1], dense[2], device=device)


def test_an_unknown_host_key_is_not_trusted(server, tmp_path):
    config = server.client(tmp_path / "config", known="none")
    with pytest.raises(OSError, match=r"log in once by hand:  ssh -p \d+ \w+@127\.0\.0\.1"):
        server.device(config=config).check()


def test_hosts_that_do_not_exist_or_do_not_answer_are_errors(server):
    with pytest.raises(OSError, match=r"nobody\.invalid.*no host of this name"):
        devices.get("ssh:me@nobody.invalid", config=str(server.config)).check()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(OSError, match="is it on, and does sshd run there"):
            devices.get(f"ssh:127.0.0.1:{port}", config=str(server.config)).check()


def test_no_client_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="OpenSSH's client"):
        devices.get("ssh:me@board").check()


def test_a_connection_that_breaks_is_an_error_and_leaves_nothing(
    server, dense, tmp_path, monkeypatch
):
    """The worker ends the server's process that serves this connection."""
    code = "import os, signal, sys, time\nparent = os.getppid()\n"
    code += "while b'sshd' not in open(f'/proc/{parent}/comm', 'rb').read():\n"
    code += "    parent = int(open(f'/proc/{parent}/stat').read().rpartition(')')[2].split()[1])\n"
    code += "os.kill(parent, signal.SIGKILL)\ntime.sleep(60)"
    fake_worker(monkeypatch, tmp_path, code)
    with pytest.raises(OSError, match="connection was lost"):
        runtime.run(dense[1], dense[2], device=server.device())
    wait_until(lambda: server.left() == [])


def test_a_silent_connection_is_an_error(server, dense, tmp_path, monkeypatch):
    monkeypatch.setattr(_channel, "_SILENCE", -29.0)
    code = "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(1.5)\n"
    code += "os.kill(os.getppid(), signal.SIGCONT)\ntime.sleep(60)"
    fake_worker(monkeypatch, tmp_path, code)
    with pytest.raises(OSError, match="nothing came for 1 s"):
        runtime.run(dense[1], dense[2], device=server.device(), timeout=30.0)
    wait_until(lambda: server.left() == [])


@pytest.mark.parametrize("size", ["64k", "512k"])
def test_a_full_disk_there_is_an_error(server, dense, size):
    """The first has no room for the samples of 400 kB, the second none for outputs of 240 kB."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(server.tmp)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a small disk")
    try:
        x = np.ones((20_000, 5), "float32")
        with pytest.raises(OSError, match="no space left"):
            runtime.run(dense[1], x, device=server.device(), **FAST)
        assert server.left() == []
    finally:
        subprocess.run(["umount", str(server.tmp)], check=True)


BAD = ["", "-oProxyCommand=x", "me@-oProxyCommand=x", "-l@host", "a b", "host;rm", "me@host:0"]
BAD += ["me@host:65536", "me@host:22:22", "me@@host", "$(id)@host", "host\n", "host:-p", "[::1"]
BAD += ["[fe80::1%-o]x", "me@", "a/b", "häst"]


@pytest.mark.parametrize("address", BAD)
def test_bad_addresses_are_refused(address):
    with pytest.raises(ValueError, match="ssh:user@host"):
        devices.get(f"ssh:{address}")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("pi@board", ((), "pi@board")),
        ("board.lan:2222", (("-p", "2222"), "board.lan")),
        ("pi@[fe80::1%eth0]:22", (("-p", "22"), "pi@fe80::1%eth0")),
    ],
)
def test_addresses_are_taken_apart(address, expected):
    device = devices.get(f"ssh:{address}", python=None)
    assert device._target() == expected
    assert device.name == f"ssh:{address}"
    assert (device.python, device.emulated, device.samples) == ("python3", False, 1000)


def test_the_agent_runs_on_the_oldest_python_that_it_promises():
    ast.parse(pathlib.Path(_agent.__file__).read_text(), feature_version=(3, 8))


def test_a_shell_there_gets_the_name_of_python_as_one_word(tmp_path):
    said = subprocess.run(
        ["sh", "-c", _channel.start("$(touch gone); echo 'a")],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert said.returncode == 127
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "worker.py", "output_0.npy.partial"])
def test_files_of_other_names_are_not_taken(tmp_path, name):
    """An answer that the agent would never give."""
    answer = _agent.MARK + json.dumps({"code": 0, "files": [[name, 4]]}).encode() + b"\nevil"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdout.buffer.write({answer!r})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    assert _channel.Channel(process, timeout=10.0).ask(["worker.py"], folder) is None
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]
