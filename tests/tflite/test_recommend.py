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
            "top1": 0.9,
            "top1_agreement": 1.0,
            "latency_ms_median": 1.0,
            "latency_ms_iqr": 0.01,
            **changes.get(name, {}),
        }
        for name, size in sizes.items()
    ]
    return pd.DataFrame(rows)


def test_the_smallest_is_taken_and_its_figures_are_given():
    row, reason = recommend(table(int8={"latency_ms_median": 0.5, "top1": 0.895}))
    assert row["variant"] == "int8"
    for part in ("int8.tflite", "250 bytes", "0.5 ms", "89.50 %", "1,000 bytes", "90.00 %"):
        assert part in reason


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"top1": 0.88}, "dynamic_int8"),
        ({"top1": 0.89}, "int8"),
        ({"latency_ms_median": 1.2}, "dynamic_int8"),
        ({"latency_ms_median": 1.09}, "int8"),
        ({"status": "failed"}, "dynamic_int8"),
        ({"bytes": 260}, "dynamic_int8"),
    ],
)
def test_what_costs_accuracy_or_time_is_passed_over(changes, expected):
    assert recommend(table(int8=changes))[0]["variant"] == expected


def test_noise_wider_than_ten_percent_is_no_slowness():
    changes = {"float32": {"latency_ms_iqr": 0.4}, "int8": {"latency_ms_median": 1.3}}
    assert recommend(table(**changes))[0]["variant"] == "int8"


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
