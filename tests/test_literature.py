"""The published results: whole, typed, found by any name, and citable."""

import csv
import importlib.resources
import subprocess
import sys

import pandas as pd
import pytest

from tfprune import literature

RESULT = ("pruned_top1", "delta_top1", "pruned_top5", "delta_top5", "params_kept", "macs_kept")


@pytest.fixture(scope="module")
def everything():
    return literature.load(results_only=False)


def rows():
    """Returns the file as text, by another reader."""
    path = importlib.resources.files("tfprune.literature") / "published_results.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def papers(table):
    return table.arxiv_id.fillna(table.paper_title).nunique()


def test_counts(everything):
    """As docs/literature.md, and the collection that it comes from, have them."""
    results = literature.load()
    assert (len(everything), len(results)) == (974, 700)
    assert (papers(everything), papers(results)) == (115, 79)
    pairs = ["dataset", "architecture"]
    assert (everything.groupby(pairs).ngroups, results.groupby(pairs).ngroups) == (206, 30)
    assert everything.top1_std.notna().sum() == 107
    assert (results.params_kept.notna() & results.macs_kept.notna()).sum() == 350
    notes = everything.note.fillna("")
    assert notes.str.startswith("no pruned result recorded").sum() == 274
    assert notes.str.contains("second-hand").sum() == 24
    assert notes.str.contains("not re-read").sum() == 14
    assert notes.str.contains("listed as high-water mark").sum() == 23


def test_every_value_is_as_it_stands_in_the_file(everything):
    for row, expected in zip(everything.to_dict("records"), rows(), strict=True):
        for name, text in expected.items():
            value = row[name]
            if not text:
                assert pd.isna(value), name
            elif isinstance(value, str):
                assert value == text
            else:
                assert value == float(text)


def test_types(everything):
    assert everything.arxiv_id.dropna().str.fullmatch(r"\d{4}\.\d{4,5}").all()
    assert everything.year.dtype == everything.n_seeds.dtype == "Int64"
    numbers = [*RESULT, "base_top1", "base_top5", "compression_ratio", "theoretical_speedup"]
    assert (everything[numbers].dtypes == "float64").all()
    error = (everything.params_kept * everything.compression_ratio - 1).abs()
    assert error.max() < 1e-3


def test_each_question_narrows_the_answer():
    expected = [
        row
        for row in rows()
        if (row["dataset"], row["architecture"]) == ("CIFAR-10", "ResNet-56")
        and (row["category"], row["granularity"]) == ("clustering", "structured")
        and any(row[name] for name in RESULT)
    ]
    found = literature.load(
        "CIFAR-10", "ResNet-56", category="clustering", granularity="structured"
    )
    assert list(found.method) == [row["method"] for row in expected] != []
    assert list(found.index) == list(range(len(found)))
    assert literature.load("Digits").empty  # the paper's numbers are not recorded


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("resnet20", "ResNet-20"),
        ("ResNet56", "ResNet-56"),
        ("RESNET-110", "ResNet-110"),
        ("lenet5", "LeNet-5-Caffe"),  # the zoo's has 431,080 parameters
        ("LeNet-5", "LeNet-5"),
        ("lenet_300_100", "LeNet-300-100"),
        ("mobilenet_v2", "MobileNet-V2"),
        ("vgg16_bn", "VGG-16"),
        ("vgg-c+bn", "VGG-C+BN"),
    ],
)
def test_architectures_have_our_names_too(asked, expected):
    assert set(literature.load(architecture=asked, results_only=False).architecture) == {expected}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("cifar10", "CIFAR-10"), ("mnist", "MNIST"), ("imagenet2012", "ImageNet")],
)
def test_datasets_have_our_names_too(asked, expected):
    assert set(literature.load(asked).dataset) == {expected}


def test_a_method_is_all_its_variants_or_one():
    variants = set(literature.load(method="cup").method)
    assert len(variants) == 8
    assert all(name.startswith("CUP (t=0.") for name in variants)
    assert set(literature.load(method="sfp").method) == {"SFP", "SFP (fine-tuned)"}
    assert set(literature.load(method="SFP (Fine-tuned)").method) == {"SFP (fine-tuned)"}


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ({"dataset": "cifar11"}, "cifar-10"),
        ({"architecture": "resnet57"}, "resnet-56"),
        ({"method": "snipp"}, "snip"),
        ({"category": "clusterin"}, "clustering"),
        ({"granularity": "Structural"}, "structured"),
    ],
)
def test_a_wrong_name_brings_the_near_ones(asked, near):
    (kind,) = asked
    with pytest.raises(ValueError, match=rf"unknown {kind} .* Did you mean .*{near}"):
        literature.load(**asked)


def test_sources(everything):
    found = literature.sources(everything)
    assert found["rows"].sum() == len(everything)
    assert papers(found) == 115
    assert not found.duplicated(["paper_title", "year", "arxiv_id", "source"]).any()
    marked = found.set_index("source").caveat
    assert marked["authors' repository README: ShaohuiLin (GAL)"] == "not re-read"
    cup = literature.sources(literature.load("cifar10", "resnet56", method="cup"))
    (row,) = cup.to_dict("records")
    assert (row["arxiv_id"], row["rows"], row["caveat"]) == ("1911.08630", 2, "")
    assert row["methods"] == "CUP (t=0.80), CUP (t=0.825)"
    assert literature.sources(everything[:0]).empty


def test_the_notices_that_licences_ask_for_are_there():
    text = (importlib.resources.files("tfprune.literature") / "NOTICE.txt").read_text()
    assert "Copyright (c) 2019 Jose Javier" in text
    assert "Permission is hereby granted" in text


def test_it_needs_no_tensorflow():
    code = (
        "import sys; from tfprune import literature; literature.load('cifar10'); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
