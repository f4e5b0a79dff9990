"""Actions that follow the import of a module."""

from __future__ import annotations

import importlib
import sys

import pytest

from bench.rank.program.imports import ImportWatch


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that takes a function of one of its modules under its own name, as torch takes ``save``."""
    folder = tmp_path / "watched_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("from watched_package.saving import save\n")
    (folder / "saving.py").write_text("def save():\n    return 'saved'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "watched_package"
    for name in [name for name in sys.modules if name.startswith("watched_package")]:
        del sys.modules[name]


@pytest.fixture
def watch():
    imports = ImportWatch()
    imports.start()
    yield imports
    imports.stop()


def replace_save(module):
    module.save = lambda: "replaced"


def test_whoever_imports_a_module_gets_what_the_action_left(package, watch):
    watch.when_imported("watched_package.saving", replace_save)
    assert importlib.import_module(package).save() == "replaced"


def test_a_module_that_was_imported_before_is_acted_on_at_once(package, watch):
    module = importlib.import_module("watched_package.saving")
    watch.when_imported("watched_package.saving", replace_save)
    assert module.save() == "replaced"


def test_a_module_is_what_it_would_be_without_the_watch(package, watch):
    watch.when_imported("watched_package.saving", lambda module: None)
    module = importlib.import_module("watched_package.saving")
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert "exec_module" not in vars(module.__loader__)
    assert importlib.reload(module).save() == "saved"


def test_a_module_that_does_not_exist_stays_so(watch):
    acted = []
    watch.when_imported("watched_package_that_is_not", acted.append)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("watched_package_that_is_not")
    assert acted == []


def test_nothing_is_watched_after_its_end(package, watch):
    watch.when_imported("watched_package.saving", replace_save)
    watch.stop()
    watch.stop()
    assert importlib.import_module(package).save() == "saved"
