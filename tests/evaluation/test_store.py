import json
import resource
import signal
import subprocess
import sys

import pytest

from tests.evaluation.test_trial import found
from tests.report import trials
from tfprune.evaluation.store import Store
from tfprune.evaluation.trial import Baseline


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "bench")


@pytest.fixture
def one():
    return found(points=[4])["magnitude/global"]


def record_of(trial, **changed):
    return trials.trial(run_id=trial.id, **changed)


def test_what_is_finished_is_known(store, one):
    assert store.record(one) is None
    store.finish(record_of(one))
    assert store.record(one) == record_of(one)
    assert store.set_aside == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 0, "kind": "trial"}', "\x00"])
def test_what_cannot_be_read_is_set_aside_and_run_again(store, one, text):
    path = store.directory / "runs" / one.id / "record.json"
    for times in (1, 2):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        assert store.record(one) is None
        assert not path.exists()
        kept = store.directory / "set_aside" / f"{one.id}-{times}" / "record.json"
        assert kept.read_text() == text
    assert len(store.set_aside) == 2
    assert one.id in store.set_aside[0][0]
    store.finish(record_of(one))
    assert store.record(one) is not None


def test_half_a_record_does_not_count(store, one):
    store.finish(record_of(one))
    (path,) = (store.directory / "runs" / one.id).iterdir()
    path.rename(path.with_name(".record.0.partial"))
    assert store.record(one) is None


def test_what_failed_is_done_unless_it_is_to_be_tried_again(store, one):
    failed = trials.failed(run_id=one.id)
    store.finish(failed)
    assert store.record(one) == failed
    assert Store(store.directory, retry_failed=True).record(one) is None


def test_dense_networks(store, one):
    assert store.baseline(one.pair) is None
    made = Baseline(b"weights", b"file", {"base_top1": 0.5})
    store.keep(one.pair, made)
    assert store.baseline(one.pair) == made
    folder = store.directory / "baselines" / one.pair.id
    (folder / "baseline.json").write_text("{")
    assert store.baseline(one.pair) is None
    assert len(store.set_aside) == 1
    assert not folder.exists()


def test_two_at_once(store):
    code = (
        "import sys; from tfprune.evaluation.store import Store\n"
        "with Store(sys.argv[1]).locked(): print('locked', flush=True); input()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(store.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(OSError, match=r"another benchmark writes to .*bench"), store.locked():
            pass
        child.kill()  # what is killed can't unlock
    with store.locked():
        pass


def test_a_disk_that_is_full(store, one):
    store.finish(record_of(one))
    before = store.record(one)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(json.dumps(before)) // 2
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large"):
            store.finish(record_of(one, seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.record(one) == before
    assert [p.name for p in (store.directory / "runs" / one.id).iterdir()] == ["record.json"]
