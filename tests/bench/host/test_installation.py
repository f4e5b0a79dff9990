"""How to install what is missing: a command that works from where the user stands."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.host.installation import CHECKOUT, cache_folder, frameworks_remedy, install_command, is_installed
from tests.support.paths import ROOT


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    folder = tmp_path / "the sources"
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return folder


def words(command: str) -> list[str]:
    return shlex.split(command)


def test_beside_the_sources_an_extra_comes_from_them_with_their_versions(checkout):
    assert CHECKOUT == ROOT
    assert words(install_command("frameworks", checkout))[-4:] == [
        *("-c", "the sources/constraints.txt"),
        *("-e", "the sources[frameworks]"),
    ]


def test_an_installed_project_names_itself_by_the_interpreter_that_lacks_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert words(install_command("micro", tmp_path)) == [
        *(sys.executable, "-m", "pip", "install"),
        "scaling-harness[micro]",
    ]


def test_the_interpreter_is_called_python_only_where_that_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert words(install_command("micro", tmp_path))[0] == "python"


def test_tox_s_environment_beside_the_sources_is_named_where_it_has_the_frameworks(checkout):
    assert "-m pip install" in frameworks_remedy(checkout)
    (checkout / ".venv" / "lib" / "python3.11" / "site-packages" / "torch").mkdir(parents=True)
    assert frameworks_remedy(checkout) == "run `the sources/.venv/bin/python -m harness`, which has it"


def test_inside_another_environment_of_tox_it_is_tox_that_makes_the_right_one(checkout, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(checkout / ".tox" / "fast"))
    assert frameworks_remedy(checkout) == f"run `tox run -c '{checkout}' -e sweep`"
    monkeypatch.chdir(checkout)
    assert frameworks_remedy(checkout) == "run `tox run -e sweep`"


def test_a_system_s_own_python_gets_an_environment_first(checkout, monkeypatch, tmp_path):
    (tmp_path / "EXTERNALLY-MANAGED").write_text("")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    command = install_command("frameworks", checkout)
    assert "-m venv 'the sources/.venv' && 'the sources/.venv'/bin/python -m pip install -c " in command


@pytest.mark.slow
def test_a_python_without_the_project_s_dependencies_is_one_line(tmp_path):
    """As in a fresh clone, by the system's interpreter."""
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "]
    command[-1] += "from harness.__main__ import main; sys.argv = ['harness', 'list']; raise SystemExit(main())"
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {sys.executable} has no module ")
    assert done.stderr.count("\n") == 1


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 987654)
    assert not cache_folder("mnist").exists()
    with pytest.raises(NotADirectoryError):
        cache_folder("mnist").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(cache_folder("mnist")) == "/somewhere/scaling-harness/mnist"


def test_a_module_that_is_missing_is_looked_for_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not is_installed("arrives_later")
    (tmp_path / "arrives_later.py").write_text("raise AssertionError('it is not loaded')")
    importlib.invalidate_caches()
    assert is_installed("arrives_later")
