"""Of the checklist what is about trials being alike but for the method, and rightly measured."""

from typing import TYPE_CHECKING

from tfprune.evaluation import methods
from tfprune.evaluation.evidence import PLACE, Evidence, Item, count, names, rows

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS = ("granularity", "epochs", "steps", "batch_size", "optimizer", "learning_rate")
_SETTINGS += ("augment", "preprocess", "calibration_samples")
# Relative errors: of a ratio that is computed as the paper says, of a point that is met.
_ROUNDED, _MET = 0.01, 0.05
_UNFAIR = "trials that differ in it can't be compared: run them with the same flags"


def starting_weights(seen: Evidence) -> Item:
    """Judges whether methods were given the same dense network."""
    hashes = seen.ok.groupby(["pair", "seed"])["starting_weights_sha256"]
    unknown = int(seen.ok["starting_weights_sha256"].isna().sum())
    differ = sorted({pair for (pair, _), n in hashes.nunique().items() if n > 1})
    met = not differ and not unknown and len(seen.ok) > 0
    said = [f"several for {names(differ)}"] * bool(differ)
    said += [f"unknown of {count(unknown, 'trial')}"] * bool(unknown)
    return Item(
        "All methods start from the same weights",
        met,
        "; ".join(said) or ("one hash a pair and seed" if met else "nothing"),
        "" if met else f"starting_weights_sha256 in each record; {_UNFAIR}",
    )


def settings(seen: Evidence) -> Item:
    """Judges whether methods were fine-tuned alike: budget, optimizer, data, preprocessing."""
    trials = seen.ok[seen.ok["method"].ne(methods.SCRATCH)]  # has a training of its own
    unknown = [name for name in _SETTINGS if trials[name].isna().any()]
    differ = [
        f"{name} in {pair}"
        for name in _SETTINGS
        for (pair, _), n in trials.groupby(PLACE)[name].nunique().items()
        if n > 1
    ]
    met = not unknown and not differ and len(trials) > 0
    said = [f"different: {names(differ)}"] * bool(differ)
    said += [f"not in all records: {names(unknown, 9)}"] * bool(unknown)
    return Item(
        "The same budget, optimizer, data, augmentation and preprocessing for all",
        met,
        "; ".join(said) or f"the same for all: {names(_budgets(trials))}",
        "" if met else _UNFAIR,
    )


def _budgets(trials: "pd.DataFrame") -> list[str]:
    every = rows(trials, ["epochs", "steps", "optimizer", "learning_rate"])
    return sorted(
        f"{epochs:g} epochs ({steps:g} steps) of {optimizer} at {rate:g}"
        for epochs, steps, optimizer, rate in every
    )


def definitions(seen: Evidence) -> Item:
    """Judges whether both ratios are there, and are what the paper says they are."""
    wrong = []
    for ratio, whole, left in (
        ("compression_ratio", "base_params", "pruned_nonzero_params"),
        ("theoretical_speedup", "base_macs", "pruned_nonzero_macs"),
    ):
        expected = seen.ok[whole] / seen.ok[left].clip(lower=1)
        error = (seen.ok[ratio] / expected - 1).abs()
        wrong += [f"{ratio} of {x}" for x in seen.ok.loc[error.gt(_ROUNDED), "method"]]
    met = not wrong and len(seen.ok) > 0
    return Item(
        "Both compression ratio and theoretical speed-up, each original / new",
        met,
        f"not so: {names(wrong)}" if wrong else f"of {count(len(seen.ok), 'trial')}",
        "" if met else "base_params / pruned_nonzero_params, and base_macs / pruned_nonzero_macs",
    )


def top5(seen: Evidence) -> Item:
    """Judges whether top-5 stands beside top-1, where there are more than five classes."""
    needed = seen.ok[~seen.ok["classes"].le(5)]
    lacking = needed[needed[["base_top5", "pruned_top5"]].isna().any(axis=1)]
    met = lacking.empty and len(seen.ok) > 0
    return Item(
        "Raw top-1 and top-5 accuracy at every point",
        met,
        f"top-5 of {len(needed) - len(lacking)} of {count(len(needed), 'trial')}",
        "" if met else f"base_top5 and pruned_top5 for {names(lacking['method'])}",
    )


def points_met(seen: Evidence) -> Item:
    """Judges whether trials of one operating point are at that point."""
    asked = seen.pruned[seen.pruned["kind"].eq("trial")]
    reached = asked["compression_ratio"].where(
        asked["axis"].eq("compression"), asked["theoretical_speedup"]
    )
    error = (reached / asked["point"] - 1).abs()
    off = [
        f"{method} reaches {value:.3g} of {point:g}"
        for method, value, point in zip(
            asked["method"][error.gt(_MET)],
            reached[error.gt(_MET)],
            asked["point"][error.gt(_MET)],
            strict=True,
        )
    ]
    text = "What is compared at an operating point is at that point"
    if asked.empty:
        return Item(text, None, "no trial was asked to meet one")
    return Item(
        text,
        not off,
        names(off) if off else f"within {100 * error.max():.1f} %",
        "compare these by the ratio they reached, as curves do, and not by the point"
        if off
        else "",
    )


def selection(seen: Evidence) -> Item:
    """Judges which weights were kept: never those that are best on test data."""
    known = seen.ok["selection"].isin(["last", "validation"])
    met = bool(known.all()) and len(seen.ok) > 0
    found = names(seen.ok["selection"].fillna("not in the record"))
    return Item(
        "Weights of the last epoch, or chosen on validation data, never on test data",
        met,
        found,
        ""
        if met
        else f"say so in the records, or run again: {names(seen.ok.loc[~known, 'method'])}",
    )


def classifier(seen: Evidence) -> Item:
    """Judges whether layers were left dense, and the same ones by all."""
    trials = seen.pruned.assign(kept=seen.pruned["protected"].map(lambda x: ", ".join(sorted(x))))
    found = trials.groupby(PLACE)["kept"].nunique()
    bare = trials.loc[trials["kept"].eq(""), "method"]
    met = len(trials) > 0 and bare.empty and bool(found.eq(1).all())
    return Item(
        "The classifier is left dense, by all methods",
        met,
        f"left dense: {names(trials['kept'].replace('', 'nothing'))}",
        "" if met else f"--protect, the same for all, also of {names(bare)}",
    )


def files(seen: Evidence) -> Item:
    """Judges whether each network became a file that was weighed and timed."""
    timed = [x for x in seen.ok if x.endswith("_latency_ms_median")]
    variants = [x.removesuffix("_latency_ms_median") for x in timed]
    variants = [x for x in variants if f"{x}_bytes" in seen.ok]
    measured = {
        x: seen.ok[f"{x}_latency_ms_median"].notna() & seen.ok[f"{x}_bytes"].notna()
        for x in variants
    }
    some = [f"{x} of {there.sum()} of {len(there)}" for x, there in measured.items()]
    # Weights are judged by other files than channels.
    met = bool(measured) and all(
        any(there[trials.index].all() for there in measured.values())
        for _, trials in seen.ok.groupby(PLACE)
    )
    return Item(
        "Claims of size and speed rest on files and measured latency",
        met,
        names(some),
        "" if met else "--variants=float32_sparse for weights, --variants=float32 for channels",
    )


def environment(seen: Evidence) -> Item:
    """Judges whether all ran on the same machine with the same libraries, and these are known."""
    columns = [x for x in seen.ok if x.startswith("env_")]
    differ = [x for x in columns if seen.ok[x].nunique(dropna=False) > 1]
    met = bool(columns) and not differ and len(seen.ok) > 0
    found = f"different: {names(x.removeprefix('env_') for x in differ)}"
    if not differ:
        found = f"the same in {count(len(columns), 'respect')}" if columns else "not in the records"
    return Item(
        "The same libraries, code and hardware for all, and said which",
        met,
        found,
        "" if met else "run all on machines of one kind, with the same packages; latency above all",
    )
