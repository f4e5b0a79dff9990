"""The installed package in a folder that holds packages of the same names."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.support.installed import environment_variables, install, plant_own_packages
from tests.support.paths import ROOT
from tests.support.stores import write_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def run(programs, tmp_path):
    """``run(program, *arguments)``: a program of the environment, in a folder with a user's own packages."""

    def run_program(program: str, *arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [str(programs / program), *arguments],
            cwd=tmp_path,
            env=environment_variables(**variables),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_program


def test_the_console_script_lists_plans_and_reports(run, tmp_path):
    plant_own_packages(tmp_path)
    write_sweep(str(tmp_path / "r.sqlite"), "s1", 2)
    assert run("scaling-harness", "--version").startswith("scaling-harness 0.")
    listed = json.loads(run("scaling-harness", "list", "--json"))
    assert listed["broken"] == []
    assert {"quick", "nightly"} <= {suite["name"] for suite in listed["suites"]}
    planned = json.loads(run("scaling-harness", "sweep", "--dry-run", "--json"))
    assert planned["cases"] or planned["skips"]
    document = json.loads(run("scaling-harness", "report", "--store", "r.sqlite", "--json"))
    assert document["cells"][0]["trials"] == 2


def test_a_program_uses_the_installed_library(run, tmp_path):
    """Its commands run the installed package too, whatever package the current folder holds."""
    write_sweep(str(tmp_path / "r.sqlite"), "s1", 2)
    (tmp_path / "programs").mkdir()
    plant_own_packages(tmp_path)
    program = tmp_path / "programs" / "program.py"
    program.write_text(
        "import harness\n"
        "print(harness.open_store('r.sqlite').cells()['trials'].sum())\n"
        "try:\n    harness.run('no-such-suite', progress=False)\n"
        "except harness.CommandError as error:\n    print(error.exit_code, str(error).partition(';')[0])\n"
    )
    assert run("python", str(program)).splitlines() == ["2", "2 unknown suite 'no-such-suite'"]


def test_the_module_ignores_packages_of_the_current_folder_but_its_own_name(run, tmp_path):
    plant_own_packages(tmp_path, "bench", "reports")
    assert json.loads(run("python", "-m", "harness", "list", "--json"))["broken"] == []


def test_the_module_of_a_source_tree_uses_that_tree_in_its_folder(run, tmp_path):
    for package in ("bench", "reports", "harness", "suites"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "suites" / "other.toml").write_text("summary = 'of this tree alone'\n")
    listed = json.loads(run("python", "-m", "harness", "list", "--json"))
    assert "other" in {suite["name"] for suite in listed["suites"]}
    assert listed["broken"] == []


def test_packages_on_the_user_s_import_path_are_not_taken_for_ours(run, tmp_path):
    plant_own_packages(tmp_path / "project", "bench", "reports")
    listed = run("scaling-harness", "list", "--json", PYTHONPATH=str(tmp_path / "project"))
    assert json.loads(listed)["broken"] == []


def test_types_are_shipped(run):
    program = "import bench, harness, reports, pathlib; print(*[m.__path__[0] for m in (bench, harness, reports)])"
    for folder in run("python", "-c", program).split():
        assert "environment" in folder
    listing = "import pathlib, harness; print((pathlib.Path(harness.__path__[0]) / 'py.typed').is_file())"
    assert run("python", "-c", listing) == "True\n"


def test_schemas_and_error_rates_are_installed(run):
    program = (
        "from reports.formats.documents import VERSIONS, schema_file; "
        "from reports.regression.rule import shipped_assurance; "
        "print(all(schema_file(name).is_file() for name in VERSIONS), shipped_assurance() is not None)"
    )
    assert run("python", "-c", program) == "True True\n"
