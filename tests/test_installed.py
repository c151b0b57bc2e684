"""What `pip install .` leaves behind."""

import importlib.metadata
import json
import pathlib
import shutil
import subprocess
import sysconfig

import pytest


@pytest.fixture(scope="module")
def distribution():
    # Building leaves an egg-info in the repository, which is not what is installed.
    places = [sysconfig.get_path("purelib")]
    found = next(iter(importlib.metadata.distributions(name="tfprune", path=places)), None)
    if found is None:
        pytest.skip("tfprune is not installed: pip install .")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        pytest.skip("tfprune is installed in editable mode: its files are the repository's")
    return found


def test_no_general_name_is_left_in_site_packages(distribution):
    top = {pathlib.PurePath(f).parts[0] for f in distribution.files}
    assert {name for name in top if not name.startswith((".", "tfprune"))} == set()
    names = {str(f) for f in distribution.files}
    needed = ("pipelines/prune.py", "report/report.html", "report/style.css")
    needed += ("report/benchmark/page.html", "literature/published_results.csv")
    assert {f"tfprune/{name}" for name in needed} <= names
    assert any(name.startswith("tfprune/pipelines/recipes/") for name in names)


@pytest.mark.parametrize("name", ["prune", "sensitivity", "train", "benchmark", "report"])
def test_commands_run_from_any_directory(distribution, name, tmp_path):
    command = shutil.which(f"tfprune-{name}", path=sysconfig.get_path("scripts"))
    done = subprocess.run(
        [command, "--help"], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert "--output_dir" in done.stdout, done.stderr
