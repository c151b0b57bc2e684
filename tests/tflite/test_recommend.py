"""The file to ship follows the stated rule."""

import pandas as pd
import pytest

from tfprune.tflite.recommend import recommend


def table(**changes):
    """Returns a table in which int8 is smallest, with `changes` = {variant: {column: value}}."""
    sizes = {"float32": 1000, "float16": 500, "dynamic_int8": 260, "int8": 250}
    rows = [
        {
            "variant": name,
            "status": "ok",
            "reason": "",
            "file": f"{name}.tflite",
            "bytes": size,
            "gzip_bytes": size // 2,
            "top1": 0.9,
            "top1_agreement": 1.0,
            "latency_ms_median": 1.0,
            **changes.get(name, {}),
        }
        for name, size in sizes.items()
    ]
    return pd.DataFrame(rows)


def test_the_least_product_is_taken_with_the_reason():
    row, reason = recommend(table(int8={"latency_ms_median": 0.5, "top1": 0.895}))
    assert row["variant"] == "int8"
    assert reason == (
        "the least latency x gzip size of the files whose top-1 is within 1 %-points of float32's"
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
    row, reason = recommend(unlabelled)
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
