"""Texts name only what exists: links, files, modules, commands, keys of suites; their examples load."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from harness.planning.suite import Suite, read_suite
from tests.support.command_lines import check_commands, markdown_tokens
from tests.support.paths import ROOT

PACKAGES = ("bench", "reports", "harness", "tests")
FOLDERS = (*PACKAGES, "suites", "docs", "docker", "findings", ".github", ".ci")
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})(?:/[\w.-]+)+/?")
MODULE = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")


def texts() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [ROOT / name for name in listed.stdout.splitlines()] or [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return sorted(path for path in found if path.is_file())


TEXTS = texts()
assert ROOT / "README.md" in TEXTS
each_text = pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


def site_pages(navigation: list[object]) -> set[str]:
    """The pages that the documentation's navigation names; the strict build makes sure that they exist."""
    pages: set[str] = set()
    for entry in navigation:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            pages |= site_pages(value) if isinstance(value, list) else {str(value)}
    return pages


SITE_PAGES = site_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])


def code_spans(path: Path) -> list[str]:
    return [token.content for token in markdown_tokens(path) if token.type == "code_inline"]


@each_text
def test_links_lead_somewhere(path):
    targets = [token.attrs.get("href", token.attrs.get("src")) for token in markdown_tokens(path) if token.attrs]
    for target in targets:
        if not isinstance(target, str) or re.match(r"[a-z]+:|#", target):
            continue
        place = (path.parent / unquote(target.partition("#")[0])).resolve()
        in_site = str(place.relative_to(ROOT / "docs")) in SITE_PAGES if place.is_relative_to(ROOT / "docs") else False
        assert place.exists() or in_site, target


@each_text
def test_files_that_are_named_exist(path):
    for span in code_spans(path):
        if PATH.fullmatch(span):
            assert (ROOT / span).exists(), span


@each_text
def test_modules_that_are_named_exist(path):
    for span in code_spans(path):
        if MODULE.fullmatch(span):
            assert resolves(span), span


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_a_module_or_an_attribute_that_does_not_exist_is_found():
    assert resolves("bench.plugins.backend.Backend.launch")
    assert not resolves("bench.plugins.backend.Backends")
    assert not resolves("bench.crew")


def test_what_the_documentation_reads_from_the_code_exists():
    """The strict build would find it too, but only where mkdocs is installed."""
    pages = ("contracts.md", "library.md")
    text = "\n".join((ROOT / "docs" / "reference" / page).read_text() for page in pages)
    names = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert names
    for node in ast.walk(ast.parse((ROOT / "docs" / "hooks.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in PACKAGES:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        assert resolves(name), name


def test_decisions_are_numbered_and_have_a_date_and_a_status():
    headings = re.findall(r"^## (\d+)\. \S.*\n(.*)$", (ROOT / "DECISIONS.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in headings] == list(range(1, len(headings) + 1))
    for number, line in headings:
        assert re.fullmatch(r"\*20\d\d-\d\d-\d\d · (accepted|superseded by \d+)\b.*\*", line), number


def test_the_architecture_names_every_room():
    named = set(code_spans(ROOT / "docs" / "architecture.md"))
    for package in ("bench", "reports", "harness"):
        rooms = {f"{package}/{folder.parent.name}" for folder in (ROOT / package).glob("*/__init__.py")}
        assert rooms
        assert rooms <= named


@each_text
def test_commands_and_their_options_exist(path):
    check_commands(path)


# Examples


def blocks(page: str, language: str) -> list[str]:
    found = markdown_tokens(ROOT / "docs" / page)
    return [token.content for token in found if token.type == "fence" and token.info.split()[:1] == [language]]


def test_the_tutorial_of_an_own_model_is_the_file_that_is_tested():
    """``tests/e2e/test_own_model.py`` runs it."""
    tutorial = blocks("how-to/own-model.md", "python")[0]
    assert tutorial == (ROOT / "docs" / "how-to" / "my_lm.py").read_text()


def test_the_example_of_a_suite_reads(tmp_path):
    whole, *tables = blocks("reference/suites.md", "toml")
    (tmp_path / "mine.toml").write_text(whole)
    assert read_suite(str(tmp_path / "mine.toml")).summary
    for table in tables:
        (tmp_path / "mine.toml").write_text(table)
        read_suite(str(tmp_path / "mine.toml"))


def test_every_key_of_a_suite_is_described():
    described = set(re.findall(r"`(\w+)[`.]", (ROOT / "docs" / "reference" / "suites.md").read_text()))
    assert set(Suite.model_fields) - {"name"} <= described
