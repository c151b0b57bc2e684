"""Every name that works is in the documentation, with its source."""

import pathlib

import pytest

from pipelines import flags
from tfprune import registry, schedules, targets
from tfprune.callbacks.group_sparsity import KINDS

METHODS = (pathlib.Path(__file__).resolve().parents[1] / "docs/methods.md").read_text()


@pytest.mark.parametrize("package", ["criteria", "granularity", "allocation"])
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
