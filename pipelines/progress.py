"""A benchmark as it goes: a live table on a terminal, else a line a trial."""

import collections
import sys
import time
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfprune.report import formats

if TYPE_CHECKING:
    from rich.table import Table

    from tfprune.evaluation.settings import Trial


class Progress:
    """Shows what is done of each pair, what failed, the last result, and how long it may take.

    Args:
      trials: all of them.
    """

    def __init__(self, trials: "Sequence[Trial]") -> None:
        self._total = collections.Counter(str(trial.pair) for trial in trials)
        self._done: collections.Counter[str] = collections.Counter()
        self._failed: collections.Counter[str] = collections.Counter()
        self._last: dict[str, str] = {}
        self._made = 0  # in this run: what was there already took no time
        self._start = time.monotonic()
        self._live = None

    def __enter__(self) -> "Progress":
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(get_renderable=self._table, refresh_per_second=1)
            self._live.start()
        else:
            print(f"{self._total.total()} trials, dense networks first", flush=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, trial: "Trial", record: Mapping[str, object], *, new: bool) -> None:
        """Counts a trial that ended, now or in an earlier run."""
        pair = str(trial.pair)
        self._done[pair] += 1
        self._made += new
        if record["status"] == "ok":
            said = f"{formats.percent(record['pruned_top1'])} top-1"
        else:
            self._failed[pair] += 1
            said = f"failed: {formats.plain(record['error'])}"
        point = f"{trial.axis} {trial.point:g}"
        self._last[pair] = f"{trial.method.name}, {point}, seed {trial.seed}: {said}"
        if new and not self._live:
            done, total = self._done.total(), self._total.total()
            print(f"{done} of {total}: {pair}, {self._last[pair]} ({self._rest()})", flush=True)

    def _rest(self) -> str:
        left = self._total.total() - self._done.total()
        if not self._made:
            return f"{left} left, dense networks first"
        seconds = (time.monotonic() - self._start) / self._made * left
        return f"{formats.seconds(seconds)} left"

    def _table(self) -> "Table":
        from rich.table import Table

        table = Table("pair", "done", "failed", "last", caption=self._rest())
        for pair, total in self._total.items():
            done, failed = f"{self._done[pair]} of {total}", str(self._failed[pair])
            table.add_row(pair, done, failed, self._last.get(pair, ""))
        return table
