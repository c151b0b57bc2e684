"""Trials run on a Dask cluster, of this machine or of many.

Everything goes to a worker with its task and comes back as its result: workers need tfprune and
the data, and no file system in common. What fails is tried once more, then recorded as failed.
"""

import contextlib
import itertools
import logging
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import tfprune
from tfprune.evaluation import trial as trials
from tfprune.evaluation.settings import Pair, Trial
from tfprune.evaluation.store import Store
from tfprune.evaluation.trial import Baseline, Record

if TYPE_CHECKING:
    from distributed import Client, Future

# What TensorFlow, a data set and a small network take of a worker's memory.
_MEMORY = 3 * 2**30
_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1,  # a task may take one worker down, not two
    # A process that grows is ended and its trial tried again. To wait, or to write to disk what
    # TensorFlow holds, would not help.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.limit": "1h",  # TensorFlow holds on to Python for seconds
}


def workers_of(count: int | None = None) -> tuple[int, int]:
    """Returns how many worker processes this machine has room for, and threads for each.

    Args:
      count: how many there are to be; by default one for each core, if memory is enough.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    count = count or max(1, min(CPU_COUNT, MEMORY_LIMIT // _MEMORY))
    return count, max(1, CPU_COUNT // count)


@contextlib.contextmanager
def cluster(scheduler: str | None = None, *, workers: int | None = None) -> "Iterator[Client]":
    """Yields the client of a cluster: of the one at `scheduler`, or of processes of this machine.

    Args:
      scheduler: address such as "tcp://host:8786".
      workers: how many processes, where there is no scheduler.

    Raises:
      OSError: if no scheduler answers there.
    """
    import dask
    import distributed

    # What they say of workers, and of what ctrl-C broke off, would bury the news of trials.
    for name in ("distributed", "tornado", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(_SETTINGS), contextlib.ExitStack() as stack:
        if scheduler:
            try:
                client = distributed.Client(scheduler, timeout=10)
            except (OSError, ValueError) as error:
                raise OSError(f"no Dask scheduler answers at {scheduler}: {error}") from error
        else:
            count, threads = workers_of(workers)
            local = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,  # TensorFlow's random state is one a process
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                    preload=["tfprune.evaluation.preload"],
                    env={
                        "TF_CPP_MIN_LOG_LEVEL": "3",
                        "TF_NUM_INTRAOP_THREADS": str(threads),
                        "TF_NUM_INTEROP_THREADS": str(threads),
                        "OMP_NUM_THREADS": str(threads),
                    },
                )
            )
            client = distributed.Client(local)
        yield stack.enter_context(client)


def check_workers(client: "Client", pairs: Sequence[Pair]) -> None:
    """Checks that each worker has this version of tfprune, and the data.

    Raises:
      ValueError: naming the first that hasn't.
    """
    wanted = tfprune.__version__
    answers = client.run(trials.ready, list(pairs), wanted, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, BaseException):  # it could not even ask itself
            raise ValueError(
                f"worker {address} can't take part: {answer}; install tfprune {wanted} there"
            )
        if answer:
            raise ValueError(f"worker {address} can't take part: {answer}")


def run(
    client: "Client | None", todo: Sequence[Trial], store: Store
) -> Iterator[tuple[Trial, Record, bool]]:
    """Yields trials as they end, each with its record, in the store by then, and whether it is new.

    Those that are done already come first. A trial that failed for good is one that is done.

    Args:
      client: of the cluster; none is needed where all is done.
      todo: the trials, those that are replayed among them.
      store: where records and dense networks are kept.

    Raises:
      ValueError: before any trial is run, if a dense network can't be made, or an operating point
        can't be met.
      OSError: if the store can't be written; what was written stays.
    """
    import distributed

    done: dict[str, Record] = {}
    for trial in todo:
        record = store.record(trial)
        if record is not None:
            done[trial.id] = record
            yield trial, record, False
    left = {trial.id: trial for trial in todo if trial.id not in done}
    if not left:
        return
    dense = _dense(client, {trial.pair.id: trial.pair for trial in left.values()}, store)
    # A task on its own, so that many trials share one copy, which can be made again.
    held = {key: client.submit(_same, made, pure=False) for key, made in dense.items()}
    _check_points(client, left.values(), held)

    running: dict[Future, Trial] = {}
    finished = distributed.as_completed()
    origins = {trial.id: trial.origin for trial in left.values()}

    def startable(trial: Trial) -> bool:
        origin = origins[trial.id]
        return origin is None or origin.id in done

    def ended(trial: Trial, record: Record) -> tuple[Trial, Record, bool]:
        store.finish(record)
        done[trial.id] = record
        return trial, record, True

    def failed(trial: Trial, error: BaseException, trace: object = None) -> Record:
        return trials.about(trial, dense[trial.pair.id]) | {
            "status": "failed",
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(type(error), error, trace)),
        }

    while left or running:
        # No worker has a second trial waiting, which would be blamed as well if the worker dies.
        room = max(1, sum(client.nthreads().values())) - len(running)
        for trial in list(itertools.islice(filter(startable, left.values()), max(0, room))):
            del left[trial.id]
            origin = origins[trial.id] and done[origins[trial.id].id]
            if origin and origin["status"] == "failed":
                reason = RuntimeError(f"trial {origin['run_id']}, which it replays, failed")
                yield ended(trial, failed(trial, reason))
                continue
            future = client.submit(
                trials.run, trial, held[trial.pair.id], origin, pure=False, retries=1
            )
            running[future] = trial
            finished.add(future)
        if not running:
            continue
        future = next(finished)
        trial = running.pop(future)
        if future.status == "finished":
            yield ended(trial, future.result())
        else:
            yield ended(trial, failed(trial, future.exception(), future.traceback()))


def _dense(client: "Client", pairs: dict[str, Pair], store: Store) -> dict[str, Baseline]:
    """Returns the dense network of each pair, made now where there is none."""
    found = {key: store.baseline(pair) for key, pair in pairs.items()}
    futures = {
        key: client.submit(trials.train, pairs[key], pure=False, retries=1)
        for key, baseline in found.items()
        if baseline is None
    }
    for key, future in futures.items():
        try:
            found[key] = future.result()
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"{pairs[key]}: {error}") from error
        store.keep(pairs[key], found[key])
    return found


def _check_points(client: "Client", left: Sequence[Trial], held: "dict[str, Future]") -> None:
    """Raises a ValueError naming the operating points that no method can meet."""
    points: dict[tuple, Trial] = {}
    for trial in left:
        points.setdefault((trial.pair.id, trial.granularity, trial.target, trial.protect), trial)
    futures = [
        (trial, client.submit(trials.check, trial, held[trial.pair.id], pure=False))
        for trial in points.values()
    ]
    wrong = []
    for trial, future in futures:
        try:
            future.result()
        except ValueError as error:
            wrong.append(f"{trial.pair}, {trial.axis} {trial.point:g}: {error}")
    if wrong:
        raise ValueError("\n  ".join(["operating points that can't be met:", *wrong]))


def _same(value: object) -> object:
    return value
