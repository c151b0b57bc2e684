"""Every name that works is in the documentation, with its source."""

import pathlib
import re

import pytest

from pipelines import flags
from tfprune import registry, schedules, targets
from tfprune.callbacks.group_sparsity import KINDS
from tfprune.tflite import variants
from tfprune.tflite.recommend import OPTIMIZE

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
METHODS, EXPORT = ((DOCS / name).read_text() for name in ("methods.md", "export.md"))


@pytest.mark.parametrize("package", ["criteria", "granularity", "allocation", "sparse_training"])
def test_methods(package):
    for name in registry.names(f"tfprune.{package}"):
        assert f"| `{name}" in METHODS


def test_schedules_and_targets():
    assert all(f"| `{name}" in METHODS for name in schedules.names())
    assert all(f"`{kind}:`" in METHODS for kind in targets.KINDS)
    assert f"`{targets.REDUNDANT}`" in METHODS
    assert all(f'"{name}"`' in METHODS for name in flags.CORRECTIONS)
    assert all(f'`"{name}"`' in METHODS for name in flags.INITIALISATIONS)


def test_training_before_channels_are_pruned():
    assert set(flags.SPARSIFY) == {*KINDS, "soft", "centripetal"}
    assert all(f"| `{name}` |" in METHODS for name in flags.SPARSIFY)


def test_methods_of_training_have_recipes():
    rows = [line for line in METHODS.splitlines() if "`digits_" in line]
    named = {name for line in rows for name in re.findall(r"`(digits_\w+)`", line)}
    there = {path.stem for path in (DOCS.parent / "pipelines/recipes").glob("digits_*.flags")}
    assert named == there
    for name in registry.names("tfprune.sparse_training"):
        assert any(line.startswith(f"| `{name}") for line in rows)


def test_exports():
    assert all(f"| `{name}` |" in EXPORT for name in variants.PRECISIONS)
    assert all(f"_{ending}`" in EXPORT for ending in ("sparse", "int_io", "uint8_io"))
    for name in registry.names("tfprune.measurement.devices"):
        assert f"| `{name}" in EXPORT
    assert all(f"`--{name}`" in EXPORT for name in ("max_bytes", "max_latency_ms", "min_top1"))
    assert f"`--optimize={'|'.join(OPTIMIZE)}`" in EXPORT
