import math

import pytest

from tfprune.report import formats

NOTHING = [None, math.nan, -math.inf, "12", True, [], 10**400]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (853, "853 B"), (999.5, "1.00 kB"), (12_345, "12.3 kB"), (999_999, "1.00 MB")],
)
def test_kilobytes_are_thousands(value, text):
    assert formats.size(value) == text


@pytest.mark.parametrize(
    ("value", "reference", "text"),
    [(0.9157, 0.9192, "−0.35"), (0.93, 0.92, "+1.00"), (0.5, 0.5, "0.00"), (0.5, 0.50001, "0.00")],
)
def test_differences_in_accuracy_are_points(value, reference, text):
    assert formats.points(value, reference) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.4231, "0.423"), (12.0, "12.0"), (999.9, "1,000"), (1234.5, "1,234")]
)
def test_milliseconds_have_three_digits(value, text):
    assert formats.milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.94, "9.9 s"), (59.6, "1 min 00 s"), (751.2, "12 min 31 s"), (11_100, "3 h 05 min")],
)
def test_seconds(value, text):
    assert formats.seconds(value) == text


@pytest.mark.parametrize("value", NOTHING)
def test_what_is_no_finite_number_is_a_dash(value):
    f = formats
    shown = (f.count, f.short_count, f.size, f.milliseconds, f.seconds, f.percent, f.error, f.ratio)
    assert {show(value) for show in shown} == {formats.DASH}
    assert formats.points(value, 0.5) == formats.points(0.5, value) == formats.DASH


def test_plain_text_has_nothing_that_hides_or_reorders():
    text = formats.plain("a\x00b\u202ec\ud800\n\td")
    assert text.isprintable()
    assert text == "a\ufffdb\ufffdc\ufffd d"
    assert text.encode("utf-8")


def test_elided_names_keep_their_end():
    assert formats.elide("block_1_conv_2", 14) == "block_1_conv_2"
    short = formats.elide("mobilenet/block_12_project/conv", 20)
    assert len(short) == 20
    assert short.endswith("project/conv")
