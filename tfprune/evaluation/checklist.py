"""What Blalock et al. 2020 ask of an evaluation of pruning, judged from its records alone.

The recommendations are those of "What is the State of Neural Network Pruning?" (arXiv 2003.03033):
its section of recommendations, the checklist in its appendix, and the confounding differences
(networks, data, budgets) that it finds in the literature. What records can't tell is listed for the
authors. `coverage` judges which trials there are, `fairness` whether they are alike.
"""

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tfprune.evaluation import coverage, fairness
from tfprune.evaluation.evidence import Evidence, Item, names

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 100
_JUDGES = (
    coverage.pairs,
    coverage.large_scale,
    coverage.points,
    coverage.collapse,
    coverage.side_by_side,
    fairness.definitions,
    fairness.top5,
    coverage.seeds,
    coverage.initialisations,
    coverage.dense_control,
    partial(coverage.baseline, kind="random"),
    partial(coverage.own_allocation, kind="random"),
    partial(coverage.baseline, kind="magnitude"),
    partial(coverage.own_allocation, kind="magnitude"),
    coverage.from_scratch,
    fairness.starting_weights,
    fairness.settings,
    fairness.points_met,
    fairness.selection,
    fairness.classifier,
    fairness.files,
    fairness.environment,
    coverage.finished,
)
_FOR_AUTHORS = (
    "Architecture, data set and method are described, or cited with all that is different",
    "Code can be downloaded, at the version that was run",
    "Claims are restricted to what was run: these data sets, networks and tasks",
)


def check(table: "pd.DataFrame") -> list[Item]:
    """Returns the recommendations, each with what the trials of a table have of it.

    Args:
      table: as `tfprune.evaluation.records.load` has it.
    """
    seen = Evidence.of(table)
    compared = Item(
        "Recent methods and those from before 2010 are among the others; it is said whose code ran",
        None,
        names(seen.compared["method"], 20),
    )
    return [
        *(judge(seen) for judge in _JUDGES),
        compared,
        *(Item(text, None, "for the authors") for text in _FOR_AUTHORS),
    ]


def text(items: Sequence[Item]) -> str:
    """Returns the checklist for the console, no line longer than 100 columns."""
    told = [item for item in items if item.met is not None]
    lines = [f"Checklist (arXiv 2003.03033): {sum(x.met for x in told)} of {len(told)} met"]
    for item in items:
        mark = {True: "yes", False: "NO", None: "-"}[item.met]
        lines += _wrapped(f"{mark:>3}  ", f"{item.recommendation}: {item.found}")
        if item.missing:
            lines += _wrapped("       -> ", item.missing)
    return "\n".join(lines)


def _wrapped(start: str, said: str) -> list[str]:
    return textwrap.wrap(said, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))
