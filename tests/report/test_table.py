import pytest

from tests.report import records
from tfprune.report import table


@pytest.mark.parametrize("name", records.ALL)
def test_no_line_is_too_long_and_no_character_hides_others(name):
    text = table.text(records.ALL[name]())
    assert max(len(line) for line in text.splitlines() if "x" * 50 not in line) <= table.WIDTH
    assert all(c.isprintable() or c == "\n" for c in text)


def test_the_figures_are_there_and_the_file_comes_last():
    text = table.text(records.resnet())
    for part in ("resnet20 on cifar10", "91.92 %", "269,722", "23,626", "−0.35", "313 kB"):
        assert part in text
    last = text.split("\n\n")[-1]
    assert last.startswith("Ship pruned/int8.tflite, the least latency x gzip size of the files")
    assert "\npruned int8: 71.5 kB gzip, 14.1 × smaller than the dense float32 file" in last


def test_failures_are_told_with_their_reason():
    text = table.text(records.failures())
    assert "pruned dynamic_int8 failed: the process was ended by SIGSEGV" in text
    assert "No file is recommended" in text


def test_columns_are_aligned():
    block = table.text(records.resnet()).split("\n\n")[2].splitlines()
    assert len({len(line) for line in block}) == 1
    assert len(block) == 1 + len(records.resnet()["tflite"])


def test_other_devices_have_their_own_lines():
    text = table.text(records.devices())
    here, there = (part for part in text.split("\n\n") if part.startswith("TFLite file"))
    assert "local" not in here
    assert len(here.splitlines()) == len(records.resnet()["tflite"])  # a head, and one is away
    lines = [line.split() for line in there.splitlines()]
    assert lines[-1][:4] == ["pruned", "float16_sparse", "arm64", "(emulated)"]
    assert lines[-1][4:] == ["700", "ms", "0.50", "(±0.03)", "19", "99.99", "%", "16"]
    assert "pruned float16_sparse away: device 'adb:R58 M42' is offline" in text
    assert "Sparse inference on arm64 is on for float32_sparse, float16_sparse: 19" in text
    assert "no file beats: int8, float16_sparse." in text
    assert "Sparse inference on x86 is off for float32_sparse, float16_sparse: AVX" in text


def test_what_was_only_exported_is_compared_with_itself():
    text = table.text(records.exported())
    assert "Keras model" in text
    assert "pruned" not in text
    assert "compression" not in text
    assert "No file is recommended: no file has at most 10 bytes" in text
