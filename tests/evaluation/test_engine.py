"""A real cluster of two processes: what goes wrong in a trial costs that trial alone."""

import os
import signal
from dataclasses import fields

import pytest

from tests.evaluation.test_trial import PAIR, found
from tfprune.evaluation import engine, records
from tfprune.evaluation.settings import Trial
from tfprune.evaluation.store import Store


class Deadly(Trial):
    """Takes the process down that unpacks it, as running out of memory does."""

    def __reduce__(self):
        return _unpacked, (os.getpid(), _fields(self))


def _fields(trial):
    return {field.name: getattr(trial, field.name) for field in fields(Trial)}


def _unpacked(safe, said):
    if os.getpid() != safe:  # the scheduler lives in the process of the test
        os.kill(os.getpid(), signal.SIGKILL)
    return Deadly(**said)


@pytest.fixture(scope="module")
def client():
    with engine.cluster(workers=2) as client:
        yield client


def run(client, todo, store):
    return {trial.id: (record, new) for trial, record, new in engine.run(client, todo, store)}


def test_a_trial_that_fails_costs_itself_and_its_replays(client, tmp_path):
    store = Store(tmp_path)
    good = found(points=[2, 4], methods=["snip"])
    wild = found(points=[4], methods=["snip"], learning_rate=1e30)
    deadly = found(points=[4], methods=["magnitude/global"])["magnitude/global"]
    deadly = Deadly(**_fields(deadly))
    todo = [
        good["dense"],
        good["random/uniform"],
        wild["snip/global"],
        wild["random@snip/global"],
        deadly,
    ]
    ended = run(client, todo, store)
    assert len(ended) == len(todo)
    assert all(new for _, new in ended.values())
    states = [ended[trial.id][0]["status"] for trial in todo]
    assert states == ["ok", "ok", "failed", "failed", "failed"]
    exploded, replay, killed = (ended[trial.id][0] for trial in todo[2:])
    assert "lower the learning rate" in exploded["error"]
    assert "trial.py" in exploded["traceback"]
    assert wild["snip/global"].id in replay["error"]
    assert "KilledWorker" in killed["error"]
    # All of it is on disk, and is not done twice.
    for trial in todo:
        assert records.read(tmp_path / "runs" / trial.id / "record.json") == ended[trial.id][0]
    again = run(client, todo, Store(tmp_path))
    assert again == {key: (record, False) for key, (record, _) in ended.items()}
    # A dense network is made once for all.
    assert len(list((tmp_path / "baselines").iterdir())) == 1


def test_what_cannot_be_is_said_before_anything_is_run(client, tmp_path):
    store = Store(tmp_path)
    far = found(points=[2, 10_000], methods=["magnitude/global"])
    with pytest.raises(ValueError, match=r"digits_cnn on digits, compression 10000: .*nearest"):
        run(client, [*found(points=[2]).values(), far["magnitude/global"]], store)
    missing = found(pairs=[PAIR | {"dataset": str(tmp_path / "none.npz")}])
    with pytest.raises(ValueError, match=r"digits_cnn on none.npz: .*none.npz"):
        run(client, [missing["dense"]], store)
    assert not (tmp_path / "runs").exists()


def test_workers_are_asked_for_the_data(client, tmp_path):
    assert engine.check_workers(client, [found()["dense"].pair]) is None
    missing = found(pairs=[PAIR | {"dataset": str(tmp_path / "none.npz")}])["dense"].pair
    with pytest.raises(ValueError, match=r"worker tcp://.* can't take part: .*none.npz"):
        engine.check_workers(client, [missing])


def test_a_cluster_that_is_there_already(client):
    with engine.cluster(client.scheduler.address) as other:
        assert other.scheduler.address == client.scheduler.address
        assert len(other.nthreads()) == 2


def test_no_scheduler():
    with pytest.raises(OSError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1"):
        engine.cluster("tcp://127.0.0.1:1").__enter__()


def test_processes_share_the_cores():
    count, threads = engine.workers_of()
    assert 1 <= count * threads <= os.cpu_count()
    assert engine.workers_of(1)[1] >= threads
