"""Results of pruning as their authors reported them: nothing here was run again.

A table of 974 rows from 115 papers, one a method, data set, network and operating point: most are
those that Blalock et al. 2020 (arXiv 2003.03033) collected for ShrinkBench, with later ones up to
2024. It is no ranking. Protocols, dense networks and training budgets differ from row to row, many
results were chosen on test data, and MACs mean the same only within one source. `note` says what
is unusual about a row, `source` where its numbers were read; docs/literature.md has the caveats,
NOTICE.txt the licences.
"""

import functools
import re
from typing import TYPE_CHECKING

from tfprune import registry

if TYPE_CHECKING:
    import pandas as pd

_FILE = "published_results.csv"
_WHOLE = {"year": "Int64", "n_seeds": "Int64"}
_RESULT = ["pruned_top1", "delta_top1", "pruned_top5", "delta_top5", "params_kept", "macs_kept"]
# Names of our own, and of TensorFlow Datasets, for what the table calls otherwise.
_OURS = {
    "lenet5": "LeNet-5-Caffe",
    "vgg16_bn": "VGG-16",
    "imagenet2012": "ImageNet",
    "svhn_cropped": "SVHN",
}


def load(
    dataset: str | None = None,
    architecture: str | None = None,
    *,
    method: str | None = None,
    category: str | None = None,
    granularity: str | None = None,
    results_only: bool = True,
) -> "pd.DataFrame":
    """Returns published results, those that fit all that is asked for.

    Accuracies are in percent, deltas in points (pruned - base), `params_kept` and `macs_kept`
    fractions of the dense network; `compression_ratio` and `theoretical_speedup` are their
    inverses. What is not known is missing. Text is the authors'.

    Args:
      dataset: such as "CIFAR-10", or as TensorFlow Datasets has it, "cifar10".
      architecture: such as "ResNet-20", or as `tfprune.zoo` has it, "resnet20".
      method: such as "CUP (t=0.65)", or "cup" for all of that name, whatever is in brackets.
      category: "magnitude", "clustering", "sensitivity", "training", "search", "baseline" or
        "other", after Vadera & Ameen 2020 (arXiv 2011.00241).
      granularity: "unstructured", "structured" or "unknown".
      results_only: leave out rows that only say that a paper used a data set and a network.

    Raises:
      ValueError: for a name that is not in the table, with those that are near.

    Example:
      >>> table = tfprune.literature.load("cifar10", "resnet56")
      >>> table.plot.scatter("compression_ratio", "delta_top1")
    """
    table = _table()
    asked = {
        "dataset": dataset,
        "architecture": architecture,
        "method": method,
        "category": category,
        "granularity": granularity,
    }
    chosen = table[_RESULT].notna().any(axis=1) | (not results_only)
    for column, name in asked.items():
        if name is not None:
            chosen &= table[column].isin(_named(column, name))
    return table[chosen].reset_index(drop=True)


def sources(table: "pd.DataFrame") -> "pd.DataFrame":
    """Returns what to cite for the rows of `table`, one row a paper and place it was read in.

    Columns are `paper_title`, `year`, `arxiv_id`, `source`, `methods` (their names, joined),
    `rows`, and `caveat`: "second-hand" where others quoted the numbers, "not re-read" where they
    are to be checked before they are cited.
    """
    import pandas as pd

    keys = ["paper_title", "year", "arxiv_id", "source"]
    note = table.note.fillna("")
    told = note.str.extract("(second-hand|not re-read)", expand=False).fillna("")
    rows = table.assign(source=table.source.str.replace(r", row \d+", "", regex=True), caveat=told)
    found = rows.groupby(keys, dropna=False, sort=False)
    return pd.DataFrame(
        {
            "methods": found.method.agg(lambda names: ", ".join(dict.fromkeys(names))),
            "rows": found.size(),
            "caveat": found.caveat.agg(lambda told: ", ".join(sorted(set(told) - {""}))),
        }
    ).reset_index()


@functools.cache
def _table() -> "pd.DataFrame":
    """Returns the whole table."""
    import importlib.resources

    import pandas as pd

    with importlib.resources.files(__name__).joinpath(_FILE).open("rb") as file:
        # An arXiv number has zeros at its end that count.
        return pd.read_csv(file, dtype={"arxiv_id": "str"} | _WHOLE)


def _named(column: str, name: str) -> list[str]:
    """Returns the values of a column that `name` stands for.

    Raises:
      ValueError: if there are none.
    """
    values = _table()[column].unique()
    name = _OURS.get(name, name)
    by_word = column == "method" and "(" not in name
    for same in (_without_brackets,) if by_word else (str.lower, _plain):
        if found := [value for value in values if same(value) == same(name)]:
            return found
    raise registry.unknown(f"{column} in the literature:", name.lower(), map(str.lower, values))


def _plain(name: str) -> str:
    """Returns what counts of a name: letters, digits and a plus."""
    return re.sub(r"[^a-z0-9+]", "", name.lower())


def _without_brackets(name: str) -> str:
    return _plain(re.sub(r"\(.*?\)", "", name))
