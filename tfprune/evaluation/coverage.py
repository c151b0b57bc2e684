"""Of the checklist what is about which trials there are: networks, points, seeds, controls."""

import itertools
import re
from typing import TYPE_CHECKING

from tfprune.evaluation import methods
from tfprune.evaluation.evidence import BLOCK, PLACE, Evidence, Item, blocks, count, names, rows
from tfprune.evaluation.methods import Method

if TYPE_CHECKING:
    import pandas as pd

# What the paper says doesn't count: MNIST, toys (as those bundled here), networks of no use today.
_TOY_DATA = re.compile(r"mnist|^digits", re.IGNORECASE)
_OLD_NETWORK = re.compile(r"^(?:lenet|alexnet|caffenet|digits_cnn)", re.IGNORECASE)
_IMAGENET = re.compile(r"^(?:imagenet|ilsvrc)[-_ ]?(?:2012|1k)?$", re.IGNORECASE)
_LARGE = 1_000_000
_PAIRS, _POINTS, _SEEDS = 3, 5, 3
# The largest operating point over the smallest.
_SPAN = 4
# Of top-1, which even the best method loses somewhere.
_COLLAPSE = 0.05
_BASELINES = {"random": ("random",), "magnitude": ("magnitude", "l1", "l2")}


def pairs(seen: Evidence) -> Item:
    """Judges how many pairs of data set and network there are."""
    every = _networks(seen.ok).drop_duplicates("network")
    toy = every["dataset"].str.contains(_TOY_DATA) | every["model"].str.contains(_OLD_NETWORK)
    found = f"{count(len(every) - sum(toy), 'pair')}: {names(every.loc[~toy, 'pair'])}"
    if toy.any():
        found += f"; too small to count: {names(every.loc[toy, 'pair'])}"
    lacking = _PAIRS - (len(every) - sum(toy))
    return Item(
        f"At least {_PAIRS} pairs of data set and network; MNIST, toys and LeNets don't count",
        lacking <= 0,
        found,
        f"add {count(lacking, 'pair')}: --pairs=model@dataset,..." if lacking > 0 else "",
    )


def large_scale(seen: Evidence) -> Item:
    """Judges whether one of the data sets is of the size of ImageNet."""
    every = seen.ok.drop_duplicates("pair")
    known = every["train_examples"].notna()
    large = every["train_examples"].ge(_LARGE) | (~known & every["dataset"].str.contains(_IMAGENET))
    sizes = [
        f"{row.dataset} ({row.train_examples:,.0f} training examples)" if told else row.dataset
        for row, told in zip(every.itertuples(), known, strict=True)
    ]
    return Item(
        "One pair at least is large and modern, as networks for ImageNet are",
        bool(large.any()),
        names(every.loc[large, "pair"]) if large.any() else f"only {names(sizes)}",
        "" if large.any() else "add a pair on ImageNet, or claim nothing for networks of that size",
    )


def points(seen: Evidence) -> Item:
    """Judges whether curves have enough points, far enough apart."""
    curves = seen.compared.groupby([*PLACE, "method"])["point"].agg(["nunique", "min", "max"])
    short = curves[curves["nunique"].lt(_POINTS) | (curves["max"] / curves["min"]).lt(_SPAN)]
    every = sorted(seen.compared["point"].unique())
    found = f"{count(len(every), 'point')}: {names((f'{x:g}' for x in every), 8)}"
    if len(short):
        found += "; too few or too close: "
        found += names(f"{method} ({pair})" for pair, _, method in short.index)
    met = bool(len(curves)) and not len(short)
    return Item(
        f"At least {_POINTS} operating points a curve, over a range such as 2 to 32",
        met,
        found,
        "" if met else "--points=1,2,4,8,16,32, or of MACs 1,1.5,2,3,4,8",
    )


def collapse(seen: Evidence) -> Item:
    """Judges whether curves go on to where accuracy is lost."""
    means = seen.compared.groupby([*BLOCK, "method"])[["pruned_top1", "base_top1"]].mean()
    lost = (means["base_top1"] - means["pruned_top1"]).groupby(BLOCK).min()
    worst = lost[lost.groupby(PLACE).idxmax()] if len(lost) else lost
    found = (
        f"{pair} loses {100 * loss:.1f} points at {point:g}"
        for (pair, _, point), loss in worst.items()
    )
    met = bool(len(worst)) and bool(worst.ge(_COLLAPSE).all())
    return Item(
        "Points so extreme that accuracy drops substantially",
        met,
        f"by the best method, {names(found, 6)}",
        "" if met else f"more extreme --points: where all methods lose {100 * _COLLAPSE:g} points",
    )


def side_by_side(seen: Evidence) -> Item:
    """Judges whether there are methods to compare."""
    found = seen.compared.groupby(PLACE)["method"].nunique()
    met = bool(len(found)) and bool(found.gt(1).all())
    return Item(
        "The trade-off curve of a method stands beside those of others",
        met,
        names(seen.compared["method"], 12),
        "" if met else "compare several: --methods=...",
    )


def seeds(seen: Evidence) -> Item:
    """Judges how often each trial was repeated, and whether seeds change anything."""
    groups = seen.ok.groupby([*BLOCK, "method"])
    counts, met = groups["seed"].nunique(), False
    if counts.empty:
        found, missing = "no trial finished", "--seeds=0,1,2"
    elif counts.min() < _SEEDS:
        few = [
            (f"{method} ({pair})", point)
            for (pair, _, point, method), n in counts.items()
            if n < _SEEDS
        ]
        found = f"{counts.min()} or more seeds; fewer than {_SEEDS}: "
        found += f"{len(few)} of {len(counts)} points, such as {names(x for x, _ in few[:1])}"
        missing = "add --seeds=0,1,2, or run trials that failed again"
    elif groups["pruned_top1"].nunique().max() == 1:
        found = f"{counts.min()} seeds, but every one gives the same accuracy"
        missing = "nothing is random here: fine-tune, or say that there is no spread to know"
    else:
        met, missing = True, ""
        found = f"{count(counts.min(), 'seed')} a point, mean and sample standard deviation"
    return Item("Means and standard deviations over several seeds", met, found, missing)


def initialisations(seen: Evidence) -> Item:
    """Judges whether a network was trained more than once before it was pruned."""
    found = _networks(seen.ok).groupby("network")["starting_weights_sha256"].nunique()
    met = bool(len(found)) and bool(found.gt(1).all())
    return Item(
        "Runs start from separate initialisations of the dense network too",
        met,
        f"{count(int(found.min()), 'dense network')} a pair" if len(found) else "none",
        ""
        if met
        else "train the network from other initial weights (pipelines.train --seed=1) and give its "
        "file as one more of --pairs; till then what is said is of these weights",
    )


def dense_control(seen: Evidence) -> Item:
    """Judges whether the dense network was fine-tuned as the pruned ones were."""
    wanted, there = (rows(table, [*PLACE, "seed"]) for table in (seen.pruned, seen.dense))
    lacking = wanted - there
    met = bool(wanted) and not lacking
    return Item(
        "Every metric also of the dense network, fine-tuned just as long",
        met,
        f"for {len(wanted) - len(lacking)} of {count(len(wanted), 'pair')} and seeds",
        "" if met else "dense among --controls",
    )


def baseline(seen: Evidence, kind: str) -> Item:
    """Judges whether random or magnitude pruning is there, by an allocation of its own."""
    wanted = rows(seen.compared, BLOCK)
    found = seen.pruned[_scored_by(seen.pruned, kind) & seen.pruned["replays"].isna()]
    lacking = wanted - rows(found, BLOCK)
    met = bool(wanted) and not lacking
    return Item(
        f"A baseline of {kind} pruning, global or uniform",
        met,
        names(found["method"]),
        "" if met else f"{kind} among --controls, missing for {blocks(lacking)}",
    )


def own_allocation(seen: Evidence, kind: str) -> Item:
    """Judges whether random or magnitude pruning is there with each method's layer allocation."""
    lacking, count_ = [], 0
    for place, trials in seen.compared.groupby([*PLACE, "method"]):
        pair, axis, method = place
        wanted = _replays(trials.iloc[0].to_dict(), kind)
        if wanted is None:
            continue
        count_ += 1
        there = seen.pruned[seen.pruned["pair"].eq(pair) & seen.pruned["axis"].eq(axis)]
        replayed = there["replays"].eq(method) & _scored_by(there, kind)
        points = there.loc[replayed | there["method"].isin(wanted), "point"]
        if not set(trials["point"]) <= set(points):
            lacking.append(f"{method} ({pair})")
    return Item(
        f"{kind.capitalize()} pruning with the layer allocation of each method",
        not lacking if count_ else None,
        f"for {count_ - len(lacking)} of {count_} methods and pairs"
        if count_
        else "no method has an allocation to replay",
        f"replays among --controls, missing for {names(lacking)}" if lacking else "",
    )


def from_scratch(seen: Evidence) -> Item:
    """Judges whether the small network was also trained from random weights."""
    text = "Where channels go, the small network trained from scratch"
    structured = seen.compared["granularity"].fillna("").str.startswith("channel")
    wanted = rows(seen.compared[structured], BLOCK)
    if not wanted:
        return Item(text, None, "no channels were removed here")
    lacking = wanted - rows(seen.pruned[seen.pruned["method"].eq(methods.SCRATCH)], BLOCK)
    return Item(
        text,
        not lacking,
        f"at {len(wanted) - len(lacking)} of {count(len(wanted), 'point')}",
        f"scratch among --controls, missing for {blocks(lacking)}" if lacking else "",
    )


def finished(seen: Evidence) -> Item:
    """Judges whether each method has a result wherever another one has."""
    failed = seen.table[seen.table["status"].ne("ok")]
    holes = [f"{trial.method} ({trial.pair})" for trial in failed.itertuples()]
    not_run = 0
    for (pair, _), trials in seen.table[seen.table["point"].gt(1)].groupby(PLACE):
        key = ["method", "point", "seed"]
        every = set(itertools.product(*(trials[column].unique() for column in key)))
        lacking = every - rows(trials, key)
        not_run += len(lacking)
        holes += [f"{method} ({pair})" for method, _, _ in sorted(lacking)]
    found = f"{count(len(seen.ok), 'trial')} finished, {len(failed)} failed"
    if not_run:
        found += f", {not_run} not run"
    return Item(
        "Every method has a result at every point with every seed",
        not holes and len(seen.ok) > 0,
        found,
        f"run the same command again, with --retry_failed: {names(holes)}" if holes else "",
    )


def _networks(trials: "pd.DataFrame") -> "pd.DataFrame":
    """Returns the trials with a column that is the same for the same data and architecture."""
    size = trials["base_params"].astype(str) + "/" + trials["base_macs"].astype(str)
    name = trials["model"].where(trials["base_params"].isna(), size)
    return trials.assign(network=trials["dataset"] + "/" + name)


def _scored_by(trials: "pd.DataFrame", kind: str) -> "pd.Series":
    # Of another tool the method's name alone may be known.
    criteria = trials["criterion"].fillna(trials["method"].str.extract(r"^([\w.]+)")[0])
    return criteria.isin(_BASELINES[kind])


def _replays(trial: dict[str, object], kind: str) -> set[str] | None:
    """Returns under which names a method's allocation may be there, None if it needs none."""
    if trial["method"] in methods.TFMOT:  # which is magnitude, every layer as sparse
        trial = trial | {"criterion": "magnitude", "allocation": "uniform"}
    if trial["criterion"] in _BASELINES[kind] or trial["method"] == methods.SCRATCH:
        return None
    if isinstance(trial["replays"], str):
        return None
    if not all(isinstance(trial[key], str) for key in ("criterion", "allocation")):
        return set()
    correction = trial["correction"] if isinstance(trial["correction"], str) else "own"
    method = Method(trial["criterion"], trial["allocation"], correction)
    plain = "l1" if str(trial["granularity"]).startswith("channel") else "magnitude"
    try:
        every = methods.controls([method], kinds=("replays",), plain=plain)
    except ValueError:  # another tool's words
        return set()
    return {control.name for control in every if control.criterion in _BASELINES[kind]}
