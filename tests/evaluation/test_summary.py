import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.report import trials
from tfprune.evaluation import records, summary

# Area under the curve of four variants of C4.5 on 14 data sets: table 6 of Demsar 2006, JMLR 7. Two
# values that are equal as printed and have different ranks differ here in the fourth digit.
DEMSAR = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975
0.957 0.978 0.946 0.970
"""
VARIANTS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def table(every):
    """Returns the table of records, without the detour of files."""
    return pd.DataFrame([records._row(json.loads(json.dumps(record))) for record in every])


def of(tops, *, point=8, **changed):
    """Returns the trials of {method: accuracy of each seed}."""
    return [
        trials.trial(method, pruned_top1=top1, seed=seed, point=point, **changed)
        for method, values in tops.items()
        for seed, top1 in enumerate(values)
    ]


def demsar(seeds=2):
    return [
        record
        for number, line in enumerate(DEMSAR.split("\n")[1:-1])
        for record in of(
            {v: [float(x)] * seeds for v, x in zip(VARIANTS, line.split(), strict=True)},
            dataset=f"set{number}",
        )
    ]


def test_curves_are_means_and_sample_deviations():
    every = trials.grid()
    found = summary.curves(table(every)).set_index(["pair", "method", "point"])
    assert found.index.is_unique
    assert len(found) == 2 * (1 + 5 * 7)
    groups = {}
    for record in every:
        key = (f"{record['model']} on {record['dataset']}", record["method"], record["point"])
        groups.setdefault(key, []).append(record)
    for key, group in groups.items():
        row = found.loc[key]
        assert (row["n"], row["failed"], row["control"]) == (3, 0, group[0]["control"])
        assert pd.isna(row["replays"]) or row["replays"] == group[0]["replays"]
        for metric in ("pruned_top1", "pruned_top5", "untuned_top1", "entropy_bytes"):
            values = [record[metric] for record in group]
            assert row[f"{metric}_mean"] == pytest.approx(np.mean(values))
            assert row[f"{metric}_std"] == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        values = [record["tflite"][1]["latency_ms_median"] for record in group]
        assert row["int8_latency_ms_median_mean"] == pytest.approx(np.mean(values))


def test_a_curve_knows_failures_and_single_seeds():
    every = of({"a": [0.5], "b": [0.6, 0.7]})
    every += [trials.failed(method="b", seed=2), trials.failed(method="c")]
    found = summary.curves(table(every)).set_index("method")
    assert found["n"].to_dict() == {"a": 1, "b": 2, "c": 0}
    assert found["failed"].to_dict() == {"a": 0, "b": 1, "c": 1}
    assert found["pruned_top1_std"].isna().to_dict() == {"a": True, "b": False, "c": True}
    assert found.loc["b", "pruned_top1_std"] == pytest.approx(0.1 / np.sqrt(2))
    assert np.isnan(found.loc["c", "pruned_top1_mean"])


def test_a_trial_that_was_first_a_control_is_none_if_it_was_also_asked_for():
    every = of({"a": [0.5]}, control=True) + of({"a": [0.1, 0.6]}, control=False)[1:]
    found = summary.curves(table(every))
    assert found[["n", "control"]].values.tolist() == [[2, False]]


def test_ranks_are_those_that_demsar_published():
    found = summary.ranks(table(demsar()))
    assert list(found.index) == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert found["mean_rank"].round(3).tolist() == [1.964, 2.0, 2.893, 3.143]
    assert found["wins"].to_dict() == {"C4.5": 3, "C4.5+m": 5, "C4.5+cf": 2, "C4.5+m+cf": 7}
    assert found.attrs["blocks"] == 14
    assert found.attrs["reason"] is None
    assert found.attrs["critical_difference"] == pytest.approx(1.25, abs=0.005)
    # His 9.28 is without correction for ties: of two, thrice, and of four.
    ties = 1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * 4 * (4**2 - 1))
    assert found.attrs["statistic"] * ties == pytest.approx(9.28, abs=0.005)
    assert found.attrs["p_value"] == pytest.approx(stats.chi2.sf(found.attrs["statistic"], 3))


def test_a_missing_reason_for_a_critical_difference_is_said():
    every = demsar()
    for chosen, why in (
        ([x for x in every if x["method"] in VARIANTS[:2]], "three methods in two blocks"),
        ([x for x in every if x["dataset"] == "set0"], "three methods in two blocks"),
        ([x for x in every if x["seed"] == 0], "one seed"),
        ([x for x in every if x["dataset"] in ("set0", "set1")], "finds no difference"),
        ([x | {"pruned_top1": 0.5} for x in every], "the same accuracy"),
        (of({"a": [0.5] * 2, "b": [0.6] * 2}) + of({"c": [0.5] * 2}, axis="macs"), "three methods"),
        ([trials.failed(method="a")], "three methods"),
    ):
        found = summary.ranks(table(chosen))
        assert found.attrs["critical_difference"] is None
        assert why in found.attrs["reason"]
    assert found.empty


def test_methods_without_all_blocks_are_left_out_and_said():
    lost = demsar()[0]
    some = [x for x in demsar() if (x["dataset"], x["method"]) != (lost["dataset"], VARIANTS[3])]
    some += of({"dense": [0.9, 0.9]}, point=1, dataset="set0")
    some += [trials.failed(method="never", dataset="set1")]
    found = summary.ranks(table(some))
    assert set(found.index) == set(VARIANTS[:3])
    assert found.attrs["left_out"] == {VARIANTS[3]: 1, "never": 14}
    assert found["mean_rank"].mean() == pytest.approx(2)


def test_level_with_the_best_is_who_games_and_howell_cannot_tell_from_it():
    rng = np.random.default_rng(0)
    seen = set()
    for point in range(2, 10):
        tops = {
            f"m{i}": rng.normal(0.7 - 0.02 * i, 0.008 * (i + 1), size=rng.integers(3, 7))
            for i in range(4)
        }
        row = summary.best(table(of(tops, point=point))).iloc[0]
        first = max(tops, key=lambda method: tops[method].mean())
        p = stats.tukey_hsd(*tops.values(), equal_var=False).pvalue[list(tops).index(first)]
        expected = {m for m, value in zip(tops, p, strict=True) if value >= 0.05} - {first}
        assert (row["method"], set(row["level"])) == (first, expected)
        seen.add(len(expected))
    assert len(seen) > 2  # else any rule would do


@pytest.mark.parametrize(
    ("tops", "first", "level"),
    [
        ({"a": [0.7], "b": [0.6]}, "a", None),
        ({"a": [0.9], "b": [0.6, 0.7, 0.8]}, "b", []),
        ({"a": [0.7, 0.71], "b": [0.7]}, "a", []),
        ({"a": [0.7, 0.71], "b": [0.70, 0.709], "c": [0.7]}, "a", ["b"]),
        ({"a": [0.7, 0.7], "b": [0.7, 0.7], "c": [0.69, 0.69]}, "a", ["b"]),
    ],
    ids=[
        "one seed of each",
        "one seed of the best",
        "one seed of the others",
        "one of another",
        "no spread at all",
    ],
)
def test_one_seed_says_nothing_of_spread(tops, first, level):
    every = of(tops) + of({"dense": [0.99, 0.99]}, point=1)
    row = summary.best(table(every)).iloc[0]
    assert (row["method"], row["level"]) == (first, level)


def test_the_best_is_found_for_each_pair_axis_and_point():
    every = [*of({"a": [0.5], "b": [0.4]}), *of({"a": [0.3], "b": [0.4]}, point=16)]
    every += of({"a": [0.1], "b": [0.2]}, axis="macs")
    found = summary.best(table(every)).set_index(["axis", "point"])["method"]
    assert found.to_dict() == {("compression", 8): "a", ("compression", 16): "b", ("macs", 8): "b"}
