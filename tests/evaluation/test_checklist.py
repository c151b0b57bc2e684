"""A benchmark that follows every recommendation, and what is said once it no longer does."""

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.test_summary import table
from tests.report import records as others
from tests.report import trials
from tfprune.evaluation import checklist

PAIRS = (("cifar10", "resnet8"), ("cifar100", "vgg16"), ("imagenet2012", "resnet50"))
REPLAYS = {"random@snip/global": "snip/global", "magnitude@snip/global": "snip/global"}
CONTROLS = {"random/uniform": None, "magnitude/uniform": None, **REPLAYS}
# {what a name of a test says: the recommendation's own words}
WORDS = {
    "pairs": "pairs of data set and network",
    "large": "large and modern",
    "points": "operating points a curve",
    "collapse": "accuracy drops",
    "others": "stands beside those of others",
    "ratios": "Both compression ratio",
    "top5": "top-5",
    "seeds": "several seeds",
    "initialisations": "separate initialisations",
    "dense": "Every metric also of the dense network",
    "random": "baseline of random",
    "random replayed": "Random pruning with the layer allocation",
    "magnitude": "baseline of magnitude",
    "magnitude replayed": "Magnitude pruning with the layer allocation",
    "scratch": "from scratch",
    "start": "same weights",
    "budget": "same budget",
    "met": "at that point",
    "selection": "never on test data",
    "classifier": "classifier",
    "files": "files and measured latency",
    "environment": "same libraries",
    "finished": "Every method has a result",
}


def flawless(axis="compression"):
    controls = CONTROLS if axis == "compression" else {"random/uniform": None, "l1/uniform": None}
    controls = controls | ({"scratch": None} if axis == "macs" else {})
    compared = (
        ["snip/global", "tfmot"] if axis == "compression" else ["fpgm/uniform", "cup/uniform"]
    )
    every = []
    for place, (dataset, model) in enumerate(PAIRS):
        common = {"dataset": dataset, "model": model, "axis": axis, "base_params": 10**5 + place}
        common |= {"train_examples": 10 ** (5 + place)}
        for seed in range(3):
            common |= {"seed": seed, "starting_weights_sha256": f"{place}{seed}"}
            every.append(trials.trial("dense", point=1, control=True, **common))
            for point in trials.POINTS[axis][1:]:
                for method in [*compared, *controls]:
                    control = {"control": method in controls, "replays": controls.get(method)}
                    record = trials.trial(method, point=point, **common, **control)
                    if method in REPLAYS:
                        record |= {"criterion": method.partition("@")[0], "allocation": None}
                    elif method in ("tfmot", "scratch"):
                        record |= {"criterion": None, "allocation": None}
                    every.append(record)
    every = table(every)
    every["pruned_nonzero_params"] = every["base_params"] / every["compression_ratio"]
    every["pruned_nonzero_macs"] = every["base_macs"] / every["theoretical_speedup"]
    return every


@pytest.fixture(scope="module")
def weights():
    return flawless()


@pytest.fixture(scope="module")
def channels():
    return flawless("macs")


def item(items, name):
    (found,) = (x for x in items if WORDS[name] in x.recommendation)
    return found


def without(rows, **equal):
    """Returns the rows but those with these values."""
    gone = np.logical_and.reduce([rows[key].isin(value) for key, value in equal.items()])
    return rows[~gone]


def changed(rows, where=None, **values):
    """Returns the rows with other values, in all or where a method is named."""
    rows = rows.copy()
    chosen = rows["method"].eq(where) if where else rows["method"].notna()
    for key, value in values.items():
        rows[key] = rows[key].mask(chosen, value)
    return rows


def test_a_flawless_benchmark_meets_all(weights, channels):
    for rows, exempt in ((weights, {"scratch"}), (channels, set())):
        items = checklist.check(rows)
        for name in WORDS:
            assert item(items, name).met is (None if name in exempt else True), item(items, name)
            assert not item(items, name).missing
    assert [x.found for x in items].count("for the authors") == 3


@pytest.mark.parametrize(
    ("name", "flaw", "found", "missing"),
    [
        (
            "pairs",
            lambda x: without(x, dataset=["cifar10"]),
            "2 pairs: vgg16 on cifar100, resnet50 on imagenet2012",
            "add 1 pair: --pairs=model@dataset",
        ),
        (
            "pairs",
            lambda x: x.assign(dataset=x["dataset"].replace("cifar100", "fashion_mnist")),
            "too small to count: vgg16 on cifar100",
            "add 1 pair",
        ),
        (
            "pairs",
            lambda x: x.assign(model=x["model"].replace("vgg16", "lenet5")),
            "too small to count",
            "add 1 pair",
        ),
        (
            "large",
            lambda x: x.assign(train_examples=50_000),
            "imagenet2012 (50,000 training examples)",
            "ImageNet",
        ),
        (
            "points",
            lambda x: without(x, point=[4], pair=["resnet8 on cifar10"]),
            "too few or too close: snip/global (resnet8 on cifar10), tfmot (resnet8 on cifar10)",
            "--points=1,2,4,8,16,32",
        ),
        (
            "collapse",
            lambda x: x.assign(pruned_top1=x["base_top1"] - 0.04 - 0.001 * x["seed"]),
            "resnet8 on cifar10 loses 4.1 points at",
            "more extreme --points",
        ),
        (
            "others",
            lambda x: without(x, method=["tfmot"]),
            "snip/global",
            "--methods",
        ),
        (
            "ratios",
            lambda x: changed(x, "tfmot", compression_ratio=0.9),
            "compression_ratio of tfmot",
            "base_params / pruned_nonzero_params",
        ),
        (
            "top5",
            lambda x: changed(x, "tfmot", pruned_top5=np.nan),
            "top-5 of 234 of 279 trials",
            "base_top5 and pruned_top5 for tfmot",
        ),
        (
            "seeds",
            lambda x: without(x, seed=[2], method=["tfmot"], point=[8]),
            "2 or more seeds; fewer than 3: 3 of 93 points",
            "--seeds=0,1,2",
        ),
        (
            "seeds",
            lambda x: x.assign(
                pruned_top1=x.groupby(["pair", "method", "point"])["pruned_top1"].transform("mean")
            ),
            "every one gives the same accuracy",
            "nothing is random",
        ),
        (
            "initialisations",
            lambda x: x.assign(starting_weights_sha256=x["starting_weights_sha256"].str[0]),
            "1 dense network a pair",
            "pipelines.train --seed",
        ),
        (
            "dense",
            lambda x: without(x, method=["dense"], seed=[1], pair=["resnet8 on cifar10"]),
            "for 8 of 9",
            "dense among --controls",
        ),
        (
            "random",
            lambda x: without(x, method=["random/uniform"], pair=["resnet8 on cifar10"]),
            "random/uniform",
            "random among --controls, missing for resnet8 on cifar10 at 2, resnet8",
        ),
        (
            "magnitude",
            lambda x: without(x, method=["magnitude/uniform"]),
            "none",
            "magnitude among --controls",
        ),
        (
            "random replayed",
            lambda x: without(x, method=["random@snip/global"], pair=["resnet8 on cifar10"]),
            "for 5 of 6 methods and pairs",
            "replays among --controls, missing for snip/global (resnet8 on cifar10)",
        ),
        (
            "magnitude replayed",
            lambda x: without(x, method=["magnitude@snip/global"]),
            "for 0 of 3 methods and pairs",
            "replays among --controls",
        ),
        (
            "start",
            lambda x: changed(x, "tfmot", starting_weights_sha256="other"),
            "several for resnet50 on imagenet2012, resnet8 on cifar10, vgg16 on cifar100",
            "starting_weights_sha256",
        ),
        (
            "start",
            lambda x: changed(x, "tfmot", starting_weights_sha256=None),
            "unknown of 45 trials",
            "starting_weights_sha256 in each record",
        ),
        (
            "budget",
            lambda x: changed(x, "dense", steps=0),
            "different: steps in resnet50 on imagenet2012",
            "the same flags",
        ),
        (
            "budget",
            lambda x: changed(x, "tfmot", preprocess='{"name": "unit"}'),
            "different: preprocess in",
            "the same flags",
        ),
        (
            "budget",
            lambda x: x.assign(optimizer=None),
            "not in all records: optimizer",
            "the same flags",
        ),
        (
            "met",
            lambda x: changed(x, "tfmot", point=10).assign(kind="trial"),
            "tfmot reaches 2 of 10",
            "by the ratio they reached",
        ),
        (
            "selection",
            lambda x: changed(x, "tfmot", selection="test"),
            "test",
            "tfmot",
        ),
        (
            "classifier",
            lambda x: x.assign(protected=[[] if y == "tfmot" else ["dense"] for y in x["method"]]),
            "nothing",
            "--protect, the same for all, also of tfmot",
        ),
        (
            "files",
            lambda x: changed(
                changed(x, "tfmot", float32_bytes=np.nan), "dense", int8_latency_ms_median=np.nan
            ),
            "float32 of 234 of 279, int8 of 270 of 279",
            "--variants",
        ),
        (
            "environment",
            lambda x: changed(x, "tfmot", env_cpu="another"),
            "different: cpu",
            "machines of one kind",
        ),
        (
            "finished",
            lambda x: without(x, seed=[2], method=["random/uniform"], point=[8]),
            "276 trials finished, 0 failed, 3 not run",
            "--retry_failed: random/uniform (resnet50 on imagenet2012)",
        ),
        (
            "finished",
            lambda x: pd.concat([x, table([trials.failed(method="dense", seed=9, point=1)])]),
            "279 trials finished, 1 failed",
            "--retry_failed",
        ),
    ],
)
def test_a_flaw_is_found_where_it_is(weights, name, flaw, found, missing):
    said = item(checklist.check(flaw(weights)), name)
    assert said.met is False
    assert found in said.found
    assert missing in said.missing


def test_a_flaw_spoils_nothing_else(weights):
    for name, flaw in (
        ("top5", changed(weights, "tfmot", pruned_top5=np.nan)),
        ("selection", changed(weights, "tfmot", selection="test")),
        ("environment", changed(weights, "tfmot", env_cpu="another")),
        ("large", weights.assign(train_examples=50_000)),
        ("budget", changed(weights, "dense", steps=0)),
    ):
        assert [x for x in checklist.check(flaw) if x.met is False] == [
            item(checklist.check(flaw), name)
        ]


def test_few_classes_have_no_top5(weights):
    rows = weights.assign(classes=4, base_top5=np.nan, pruned_top5=np.nan)
    assert item(checklist.check(rows), "top5").met


def test_the_small_network_from_scratch_is_needed_where_channels_go(channels):
    said = item(checklist.check(without(channels, method=["scratch"], point=[8])), "scratch")
    assert (said.met, said.found) == (False, "at 12 of 15 points")
    assert "resnet8 on cifar10 at 8" in said.missing


def test_equal_shares_need_no_replay_but_random_scores_on_them(channels):
    rows = without(channels, method=["random/uniform"])
    items = checklist.check(rows)
    assert "fpgm/uniform" in item(items, "random replayed").missing
    assert item(items, "magnitude replayed").met


def test_what_tfmot_shares_out_is_uniform(weights):
    """It is magnitude pruning: random scores are missing, magnitude is there."""
    items = checklist.check(without(weights, method=["random/uniform", "magnitude/uniform"]))
    assert "missing for tfmot (resnet50 on imagenet2012)" in item(items, "random replayed").missing
    assert item(items, "magnitude replayed").met


def test_another_tool_needs_no_words_of_ours(weights):
    blank = dict.fromkeys(("criterion", "allocation", "correction", "granularity"))
    rows = changed(weights, "snip/global", **blank).replace("snip/global", "their's")
    items = checklist.check(rows)
    assert item(items, "random replayed").met
    assert item(items, "magnitude replayed").met
    assert not item(items, "budget").met


@pytest.mark.parametrize(
    "every",
    [
        [trials.failed()],
        [trials.trial("dense", point=1, control=True)],
        [trials.trial("random/uniform", control=True, criterion=None, protected=None)],
        [trials.trial(kind="race", layers=[], granularity="channel")],
    ],
    ids=["failed", "dense alone", "controls alone", "a stranger"],
)
def test_little_is_judged_too(every):
    items = checklist.check(table(every))
    assert len(items) == len(WORDS) + 4
    assert item(items, "seeds").met is False


def test_the_console_has_every_item_and_no_hidden_character(weights):
    nasty = others.SCRIPT + "\x00\x1b[31m\u202e" + "x" * 300
    items = checklist.check(weights.assign(pair=nasty + weights["pair"]))
    text = checklist.text(items)
    assert max(map(len, text.splitlines())) <= 100
    assert all(c.isprintable() or c == "\n" for c in text)
    assert text.startswith("Checklist (arXiv 2003.03033): 22 of 22 met")
    assert text.count("\nyes  ") == 22
    assert text.count("\n  -  ") == 5
    text = checklist.text(checklist.check(without(weights, method=["dense"])))
    assert "\n NO  Every metric also of the dense network" in text
    assert "\n       -> dense among --controls" in text
