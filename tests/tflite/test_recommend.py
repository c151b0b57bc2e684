"""The file to ship follows the stated rule."""

import numpy as np
import pandas as pd
import pytest

from tfprune.tflite.recommend import recommend


def table(**changes):
    """Returns a table in which int8 is smallest, with `changes` = {variant: {column: value}}."""
    sizes = {"float32": 1000, "float16": 500, "dynamic_int8": 260, "int8": 250}
    rows = [
        {
            "variant": name,
            "device": "local",
            "emulated": False,
            "status": "ok",
            "reason": "",
            "file": f"{name}.tflite",
            "bytes": size,
            "gzip_bytes": size // 2,
            "top1": 0.9,
            "top1_agreement": 1.0,
            "samples": 1000,
            "latency_ms_median": 1.0,
            **changes.get(name, {}),
        }
        for name, size in sizes.items()
    ]
    return pd.DataFrame(rows)


def test_the_least_product_is_taken_with_the_reason():
    row, reason, _ = recommend(table(int8={"latency_ms_median": 0.5, "top1": 0.895}))
    assert row["variant"] == "int8"
    assert reason == (
        "the least latency x gzip size of the files with top-1 within 1 %-points of float32's"
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"top1": 0.88}, "dynamic_int8"),
        ({"top1": 0.89}, "int8"),
        ({"latency_ms_median": 1.05}, "dynamic_int8"),  # 125 * 1.05 > 130 * 1
        ({"latency_ms_median": 1.03}, "int8"),
        ({"gzip_bytes": 250, "latency_ms_median": 0.5}, "int8"),
        ({"status": "failed"}, "dynamic_int8"),
        ({"gzip_bytes": 130}, "dynamic_int8"),
    ],
)
def test_what_costs_accuracy_or_time_is_passed_over(changes, expected):
    assert recommend(table(int8=changes))[0]["variant"] == expected


def test_a_smaller_file_does_not_make_up_for_being_three_times_slower():
    sparse = {"gzip_bytes": 100, "latency_ms_median": 3.0}
    assert recommend(table(float16=sparse))[0]["variant"] == "int8"


def test_max_drop_is_the_callers():
    assert recommend(table(int8={"top1": 0.7}), max_drop=0.25)[0]["variant"] == "int8"


def test_without_labels_agreement_decides():
    unlabelled = table(int8={"top1_agreement": 0.9}).assign(top1=float("nan"))
    row, reason, _ = recommend(unlabelled)
    assert row["variant"] == "dynamic_int8"
    assert "agreement with Keras" in reason


def test_without_classes_size_and_time_decide():
    plain = table().assign(top1=float("nan"), top1_agreement=float("nan"))
    assert recommend(plain)[0]["variant"] == "int8"


def test_without_float32_the_best_stands_in():
    rest = table(float32={"status": "failed"}, int8={"top1": 0.8})
    assert recommend(rest)[0]["variant"] == "dynamic_int8"


def test_with_no_file_all_reasons_are_given():
    with pytest.raises(ValueError, match="int8: broken"):
        recommend(table().assign(status="failed", reason="broken"))


@pytest.mark.parametrize(
    ("limits", "expected", "said"),
    [
        ({"max_bytes": 300, "optimize": "accuracy"}, "dynamic_int8", "at most 300 bytes"),
        ({"max_latency_ms": 0.7}, "int8", "at most 0.7 ms"),
        ({"min_top1": 0.85}, "int8", "a top-1 of at least 0.85"),
        ({"min_top1": 0.95}, "float16", "a top-1 of at least 0.95"),
        ({"optimize": "latency"}, "int8", "the lowest latency"),
        ({"optimize": "latency", "min_top1": 0.9}, "dynamic_int8", "the lowest latency"),
        ({"optimize": "accuracy"}, "float16", "the highest top-1"),
        ({"optimize": "bytes", "min_top1": 0.5}, "int8", "the fewest bytes"),
        ({"max_bytes": 600, "max_latency_ms": 0.9, "min_top1": 0.9}, "dynamic_int8", " and "),
    ],
)
def test_limits_and_aims_are_kept(limits, expected, said):
    rows = table(
        float16={"top1": 0.96},
        dynamic_int8={"latency_ms_median": 0.8},
        int8={"latency_ms_median": 0.5, "top1": 0.895},
    )
    row, reason, _ = recommend(rows, **limits)
    assert row["variant"] == expected
    assert said in reason


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_bytes": 100}, r"at most 100 bytes: the nearest is int8 with 250"),
        ({"max_latency_ms": 0.5}, r"at most 0\.5 ms: the nearest is float32 with 1"),
        ({"min_top1": 0.95}, r"at least 0\.95: the nearest is float32 with 0\.9"),
        ({"max_bytes": 300, "min_top1": 0.95}, "300 bytes and a top-1"),
        ({"optimize": "speed"}, "Known: accuracy, bytes, latency"),
    ],
)
def test_limits_that_none_keeps_name_the_nearest(limits, said):
    with pytest.raises(ValueError, match=said):
        recommend(table(), **limits)


def test_limits_that_cost_accuracy_say_so():
    """Better no file than one that is ten points worse unasked."""
    with pytest.raises(ValueError, match="min_top1"):
        recommend(table(int8={"top1": 0.8}), max_bytes=255)
    assert recommend(table(int8={"top1": 0.8}), max_bytes=255, min_top1=0.7)[0]["variant"] == "int8"


def test_accuracy_that_is_not_known_can_not_be_asked_for():
    plain = table().assign(top1=float("nan"), top1_agreement=float("nan"))
    with pytest.raises(ValueError, match="accuracy is not known"):
        recommend(plain, min_top1=0.5)


def test_the_pareto_set_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    rows = pd.concat([table()] * 10, ignore_index=True)
    rows["variant"] = [f"v{i}" for i in range(40)]
    rows["bytes"] = rng.integers(100, 120, 40)
    rows["latency_ms_median"] = rng.integers(1, 10, 40) / 10
    rows["top1"] = 0.9 + rng.integers(0, 5, 40) / 1000
    points = rows[["bytes", "latency_ms_median", "top1"]].to_numpy() * [1, 1, -1]
    expected = [
        f"v{i}"
        for i, mine in enumerate(points)
        if not any((other <= mine).all() and (other < mine).any() for other in points)
    ]
    assert list(recommend(rows).pareto["variant"]) == expected
    assert 1 < len(expected) < 40


def test_accuracy_is_that_of_most_samples():
    """A phone that has seen four of them tells how fast a file is, not how good."""
    here = table(int8={"top1": 0.7})
    there = table(int8={"top1": 1.0, "latency_ms_median": 0.1}).assign(device="adb:x", samples=4)
    assert recommend(pd.concat([here, there], ignore_index=True)).row["variant"] == "dynamic_int8"


def test_agreement_is_no_accuracy():
    with pytest.raises(ValueError, match="accuracy is not known"):
        recommend(table().assign(top1=float("nan")), min_top1=0.5)


def test_a_real_device_decides_and_an_emulator_does_not():
    here = table(int8={"latency_ms_median": 0.5})
    there = table(float16={"latency_ms_median": 0.1}).assign(device="ssh:pi")
    emulated = table().assign(device="arm64", emulated=True)
    row, reason, _ = recommend(pd.concat([here, emulated, there], ignore_index=True))
    assert (row["variant"], row["device"]) == ("float16", "ssh:pi")
    assert reason.endswith(", on ssh:pi")
    row, reason, _ = recommend(pd.concat([emulated, here], ignore_index=True))
    assert (row["variant"], row["device"]) == ("int8", "local")
    assert "on" not in reason.split(", ")[-1].split()[:1]
    assert recommend(emulated).reason.endswith("on arm64, which is emulated")
