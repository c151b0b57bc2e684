import stat
from html.parser import HTMLParser

import pytest

from tests.report import records
from tfprune.report import html


class Page(HTMLParser):
    """What a page is made of: elements with their attributes, and text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def page(record):
    return Page(html.render(record))


@pytest.mark.parametrize("name", records.ALL)
def test_it_is_self_contained_and_runs_no_script(name):
    for tag, attrs in page(records.ALL[name]()).elements:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form"), tag
        for key, value in attrs.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "xlink:href", "action"):
                assert value.startswith(("#", "data:")), value


def test_text_from_a_record_is_text():
    elements = page(records.hostile()).elements
    ordinary = page(records.resnet(14)).elements
    assert {tag for tag, _ in elements} <= {tag for tag, _ in ordinary} | {"p", "li", "ul"}
    assert records.SCRIPT in "".join(page(records.hostile()).text)
    assert "{{ 7 * 7 }}" in "".join(page(records.hostile()).text)


def test_the_same_record_gives_the_same_page():
    assert html.render(records.resnet()) == html.render(records.resnet())


def test_headline_and_figures():
    text = " ".join(" ".join(page(records.resnet()).text).split())
    headline = "pruned int8: 71.5 kB gzip, 14.1 × smaller than the dense float32 file"
    assert headline in text
    for figure in ("269,722", "23,626", "91.57 %", "pruned float16_sparse", "stem_conv"):
        assert figure in text


def test_every_layer_and_every_file_has_a_row():
    record = records.resnet(110)
    text = " ".join(page(record).text)
    for layer in record["layers"]:
        assert f"{layer['params']:,}" in text
    assert text.count("dense int8") >= 1
    assert all(row["variant"] in text for row in record["tflite"])


def test_reasons_of_failures_are_in_plain_sight():
    text = " ".join(page(records.failures()).text)
    for row in records.failures()["tflite"]:
        if row["status"] == "failed":
            assert " ".join(row["reason"].split())[:40] in " ".join(text.split())


def test_tables_have_headers_and_pictures_have_words():
    parts = page(records.resnet())
    headers = [attrs for tag, attrs in parts.elements if tag == "th"]
    assert headers
    assert all(attrs.get("scope") in ("col", "row") for attrs in headers)
    pictures = [attrs for tag, attrs in parts.elements if tag == "svg"]
    assert pictures
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in pictures)


def test_the_file_appears_whole_and_is_readable_by_others(tmp_path):
    html.write(records.resnet(), tmp_path / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text().rstrip().endswith("</html>")
    assert (tmp_path / "report.html").stat().st_mode & stat.S_IROTH


def test_removed_channels_take_the_place_of_zeros():
    page = html.render(records.shrunk())
    assert "21 of 32" in page
    assert "weights up for pruning" not in page
    assert "weights up for pruning" in html.render(records.resnet())


def test_devices_kernels_and_operators_have_their_tables():
    text = " ".join(" ".join(page(records.devices()).text).split())
    assert "On other devices" in text
    assert text.count("arm64 emulated") == len(records.resnet()["tflite"])
    assert "0.50 (±0.03)" in text
    assert "away" in text
    assert "is offline: plug it in" in text
    assert "60 % zeros: too few" in text
    assert "was not asked for" not in text
    assert "Time of each operator of the recommended file" in text
    assert "Sparse inference on arm64 is on for float32_sparse, float16_sparse: 19" in text


def test_what_was_only_exported_says_so():
    text = " ".join(" ".join(page(records.exported()).text).split())
    assert "resnet14 on cifar10, exported" in text
    assert "Compression ratio" not in text
    assert "On other devices" not in text
