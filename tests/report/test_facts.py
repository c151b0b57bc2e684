import pytest

from tests.report import records
from tfprune.report import facts


def row(**figures):
    return {"model": "pruned", "variant": "int8", "status": "ok"} | figures


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (20, 100, "5.0 × smaller"),
        (100, 80, "1.2 × larger"),
        (100, 104, "the same size"),
        (None, 100, ""),
        (100, float("nan"), ""),
    ],
)
def test_sizes_are_compared_as_factors(here, there, said):
    assert facts.smaller(row(gzip_bytes=here), row(gzip_bytes=there)) == said


@pytest.mark.parametrize(("spread", "said"), [(0.1, "2.0 × faster"), (1.5, "as fast")])
def test_a_difference_within_the_spread_of_the_timing_is_none(spread, said):
    slow = row(latency_ms_median=2.0, latency_ms_iqr=spread)
    assert facts.faster(row(latency_ms_median=1.0, latency_ms_iqr=0.01), slow) == said


def test_a_file_of_the_dense_model_may_be_the_one_to_ship():
    record = records.resnet()
    record["recommended"] = {"file": "baseline/int8.tflite", "variant": "int8", "reason": ""}
    assert facts.shipped(record) is record["tflite"][1]
    assert facts.against_int8(record) == ""
    assert facts.headline(record).startswith("dense int8: 247 kB gzip, 4.1 × smaller than")


def test_the_pruned_file_is_meant_where_both_have_the_same_name():
    record = records.resnet()
    for entry in record["tflite"]:
        entry["file"] = f"{entry['variant']}.tflite"
    record["recommended"]["file"] = "int8.tflite"
    assert facts.shipped(record)["model"] == "pruned"


def test_without_a_dense_file_accuracy_is_compared_with_keras():
    record = records.resnet()
    record["tflite"] = record["tflite"][2:]
    assert facts.headline(record) == "pruned int8: 71.5 kB gzip, 91.5 % top-1 (−0.4 points)."


def test_a_file_that_was_never_measured_is_not_shipped():
    record = records.failures() | {"recommended": {"file": "x", "variant": "float32_sparse"}}
    assert facts.shipped(record) is None
    assert facts.headline(record).startswith("No file is recommended")


def test_accuracy_is_that_of_most_samples_and_latency_that_of_the_device_that_decides():
    record = records.devices()
    row = facts.shipped(record)
    assert row["device"] == "adb:R58 M42"
    assert row["top1"] == 0.9151
    assert row["samples"] == 10_000
    assert row["latency_ms_median"] == pytest.approx(3.03)
    assert all(row["device"] != "adb:R58 M42" for row in facts.elsewhere(record))
    assert "91.5 % top-1" in facts.headline(record)
