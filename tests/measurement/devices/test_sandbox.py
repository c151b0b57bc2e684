"""Folders in the cache are whole or not there, whoever builds them and however that ends."""

import subprocess
import sys

import pytest

from tfprune.measurement.devices import _sandbox


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tfprune"


def build(folder):
    (folder / "file").write_text("whole")


def test_it_is_built_once_and_kept(cache):
    assert _sandbox.built("box", build) == cache / "box"
    assert _sandbox.built("box", lambda folder: pytest.fail("built again")) == cache / "box"
    assert (cache / "box/file").read_text() == "whole"


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_build_that_fails_leaves_nothing_and_the_next_one_succeeds(cache, error):
    def fails(folder):
        build(folder)
        raise error

    with pytest.raises(type(error)):
        _sandbox.built("box", fails)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    assert (_sandbox.built("box", build) / "file").is_file()


def test_what_a_killed_build_left_is_not_used(cache):
    code = (
        "import os, signal\n"
        "from tfprune.measurement.devices import _sandbox\n"
        "def build(folder):\n"
        "    (folder / 'rest').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "_sandbox.built('box', build)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode < 0
    assert not (cache / "box").exists()
    place = _sandbox.built("box", build)
    assert [path.name for path in place.iterdir()] == ["file"]


def test_of_two_processes_one_builds_and_one_waits(cache):
    code = (
        "import time\n"
        "from tfprune.measurement.devices import _sandbox\n"
        "def build(folder):\n"
        "    print('building', flush=True)\n"
        "    time.sleep(0.5)\n"
        "    (folder / 'file').touch()\n"
        "assert (_sandbox.built('box', build) / 'file').is_file()\n"
    )
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = "".join(process.communicate()[0] for process in started)
    assert [process.returncode for process in started] == [0] * 3
    assert said == "building\n"


def test_a_relative_cache_is_found_from_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert _sandbox.built("box", build) == tmp_path / "here/tfprune/box"


def test_a_command_that_fails_says_what_it_could_not_do_its_last_words_and_the_remedy():
    command = ["sh", "-c", "echo no; echo first >&2; echo second >&2; echo last >&2; exit 3"]
    with pytest.raises(OSError, match=r"^it can't: second \| last \(try again\)$"):
        _sandbox.call(command, "it can't", "try again")
    with pytest.raises(OSError, match=r"^it can't: exit code 3$"):
        _sandbox.call(["sh", "-c", "exit 3"], "it can't")
