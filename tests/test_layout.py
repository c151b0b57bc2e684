"""What the source tree promises: stages in one direction, fast imports, every package installed."""

import ast
import configparser
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# A later stage may import an earlier one, never the reverse. Those of one row are one stage.
STAGES = [
    {"registry", "batches", "linalg", "codebooks"},
    {"graph", "losses", "data", "zoo", "literature"},
    {"calibration"},
    {"statistics"},
    {"granularity"},
    {"criteria"},
    {"allocation"},
    {"targets"},
    {"schedules"},
    {"masks", "sharing"},
    {"batchnorm"},
    {"planning"},
    {"sparse_training"},
    {"surgery"},
    {"callbacks"},
    {"measurement"},
    {"tflite"},
    {"budgets"},
    {"pruning"},
    {"clustering"},
    {"sensitivity"},
    {"evaluation"},
    {"report"},
]
RANK = {name: rank for rank, names in enumerate(STAGES) for name in names}


def imported(path):
    """Returns the parts of tfprune that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "tfprune":
                found |= {parts[1]} if parts[1:] else {alias.name for alias in node.names}
            assert parts[0] != "pipelines", f"{path} imports pipelines"
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {n[1] for n in names if n[0] == "tfprune" and len(n) > 1}
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tfprune").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_stages_point_one_way(path):
    parts = path.relative_to(ROOT / "tfprune").with_suffix("").parts
    if parts == ("__init__",):
        return
    assert parts[0] in RANK, f"{parts[0]} has no place among the stages"
    for name in imported(path) - {"__version__"}:
        assert RANK[name] <= RANK[parts[0]], f"{path.name} ({parts[0]}) imports {name}"


def test_every_package_is_installed():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {p.parent for p in (ROOT / "tfprune").rglob("__init__.py")}
    expected = {".".join(p.relative_to(ROOT).parts) for p in folders} | {"tfprune.pipelines"}
    assert listed == expected


def test_importing_tfprune_does_not_import_tensorflow():
    code = (
        "import sys, tfprune; dir(tfprune); assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    import tfprune

    for name in tfprune.__all__:
        assert getattr(tfprune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        tfprune.prun  # noqa: B018
