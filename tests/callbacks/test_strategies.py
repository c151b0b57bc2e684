"""Several devices and several processes: the same masks everywhere, and those of one device."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from tfprune import registry

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 400  # seconds, after which children are ended

# Method and its words; all others in `tfprune.sparse_training` join with theirs.
FAST = {
    "gradual": {},
    "gradual, scored on data": {"criterion": "snip", "calibrated": True},
    "rigl": {"method": "rigl"},
}
_OPTIONS = {"movement": ["movement(kind='hard')", "movement(kind='soft')"]}
_REST = sorted(set(registry.names("tfprune.sparse_training")) - {"gradual", "rigl"})
SLOW = {spec: {"method": spec} for name in _REST for spec in _OPTIONS.get(name, [name])}


def words(case):
    return {"target": "sparsity:0.75", "frequency": 2} | case


@contextlib.contextmanager
def children(strategies, cases, count, file):
    """Starts the processes, and ends them whatever comes."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    # Bound both at once, or the second might be the first again.
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    started = []
    try:
        for index in range(count):
            if strategies == "workers":
                cluster = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
                environment["TF_CONFIG"] = json.dumps(cluster)
            command = [sys.executable, "-m", "tests.callbacks.replicas", f"{file}{index}.npz"]
            started.append(
                subprocess.Popen(
                    [*command, strategies, cases],
                    cwd=ROOT,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def fast():
    """What `FAST` came to."""
    return trained(FAST, "one,mirrored2")


@pytest.fixture(scope="module")
def slow():
    """What `SLOW` came to."""
    return trained(SLOW, "one,mirrored2", "mirrored4")


def trained(cases, *devices):
    """Returns of each process what came out, {strategy/case/kind/replica/variable: array}."""
    cases = json.dumps({name: words(case) for name, case in cases.items()})
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        processes, files = [], []
        for strategies in (*devices, "workers"):  # two groups of devices don't go into one process
            count, own = 2 if strategies == "workers" else 1, f"{folder}/{strategies}"
            processes += stack.enter_context(children(strategies, cases, count, own))
            files += [f"{own}{index}.npz" for index in range(count)]
        for process in processes:
            said, _ = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said[-3000:]
        return [dict(np.load(file)) for file in files]


def values(processes, strategy, case):
    """Returns (kind, variable, array) of each replica in each process."""
    for process in processes:
        for key, value in process.items():
            found, name, kind, _, index = key.split("/")
            if (found, name) == (strategy, case):
                yield kind, index, value


def check(processes, strategy, case):
    expected = {(kind, index): value for kind, index, value in values(processes, "one", case)}
    kept = [value for (kind, _), value in expected.items() if kind == "mask"]
    assert len(kept) == 2
    assert sum((~mask).sum() for mask in kept) == round(0.75 * sum(mask.size for mask in kept))
    replicas = 0
    for kind, index, value in values(processes, strategy, case):
        wanted = expected[kind, index]
        if kind == "mask":
            replicas += 1
            np.testing.assert_array_equal(value, wanted)
        else:
            np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert replicas == len(kept) * {"mirrored2": 2, "mirrored4": 4, "workers": 2}[strategy]


@pytest.mark.parametrize("case", FAST)
@pytest.mark.parametrize("strategy", ["mirrored2", "workers"])
def test_what_several_train_is_what_one_trains(fast, strategy, case):
    check(fast, strategy, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
@pytest.mark.parametrize("strategy", ["mirrored2", "mirrored4", "workers"])
def test_what_several_train_by_any_method_is_what_one_trains(slow, strategy, case):
    check(slow, strategy, case)


def test_all_workers_end_at_the_same_weights(fast):
    """To the last bit: they would drift apart otherwise."""
    *_, first, second = fast
    assert first.keys() == second.keys()
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key], key)


@pytest.mark.slow
def test_a_lost_worker_is_reported():
    start = time.monotonic()
    with children("workers", "lose", 2, "") as (first, second):
        said, _ = first.communicate(timeout=LIMIT)
        assert second.wait(timeout=LIMIT) < 0
    assert first.returncode == 3, said[-3000:]
    assert "worker 1 (127.0.0.1:" in said
    assert "is gone, and training has stopped" in said
    assert "the last checkpoint in the/checkpoints: start all workers again" in said
    assert time.monotonic() - start < 90
