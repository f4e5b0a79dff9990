"""Every reading command on a store whose every text is hostile: nothing of it has an effect anywhere."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from harness.cli.app import main
from reports.formats.csv_cells import unescape_cell
from reports.formats.trial_rows import TrialRow
from tests.support.hostile_store import AFTER, add_full_sweep, spoil_store
from tests.support.old_store import SWEEP, restore

FULL = "20261127-050000-full"
COMMANDS = {
    "report": ["report", SWEEP, "--out", "OUT/page.html"],
    "report of every field": ["report", FULL, "--out", "OUT/page.html"],
    "report beside the store": ["report", SWEEP],
    "several": ["report", SWEEP, "20261121-043948-3275", "--out", "OUT/page.html"],
    "index": ["report", "--index", "OUT/nights"],
    "predictions": ["report", SWEEP, "--predict", "8,64", "--link", "1Gbit,5us", "--out", "OUT/page.html"],
    "report as JSON": ["report", FULL, "--json", "--out", "OUT/page.html"],
    "several of every field": ["report", SWEEP, FULL, "--out", "OUT/page.html"],
    "check": ["check", "--sweep", SWEEP, "--junit", "OUT/j.xml", "--markdown", "OUT/m.md", "--html", "OUT/page.html"],
    "check of every field": ["check", "--junit", "OUT/j.xml", "--markdown", "OUT/m.md", "--html", "OUT/page.html"],
    "check as JSON": ["check", "--json"],
    "csv": ["export", SWEEP, FULL],
    "csv file": ["export", SWEEP, FULL, "--out", "OUT/trials.csv"],
    "parquet": ["export", SWEEP, FULL, "--out", "OUT/trials.parquet"],
    "pytest-benchmark": ["export", FULL, "--out", "OUT/runs.json"],
    "extrap": ["export", SWEEP, "--out", "OUT/steps.jsonl"],
    "merge": ["merge", "STORE", "--store", "OUT/merged.sqlite"],
    "sweeps list": ["sweeps", "list"],
    "sweeps show": ["sweeps", "show", FULL],
    "sweeps show as JSON": ["sweeps", "show", SWEEP, "--json"],
    "sweeps compare": ["sweeps", "compare", SWEEP, FULL, "--markdown", "OUT/changes.md"],
    "sweeps prune": ["sweeps", "prune", "--keep", "1"],
    "resume": ["sweep", "--resume"],
}
REFUSED = {"resume"}
"""Which end with a line about the store: it holds no unfinished sweep."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same store twice, as it was and spoilt."""
    folder = tmp_path_factory.mktemp("stores")
    good = restore(folder / "good.sqlite")
    add_full_sweep(good, FULL)
    spoil_store(good, folder / "bad.sqlite")
    return folder / "good.sqlite", folder / "bad.sqlite"


class Tags(HTMLParser):
    """The elements of a page, the names of their attributes, and where its links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes = {"transform"}  # of labels too long to lie beside each other
        self.links: set[str] = set()
        self.scripts = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        # The height of a figure with a row for each long name is a number of ours.
        self.attributes |= {
            name for name, value in attrs if name != "style" or not re.fullmatch(r"--height:\d+px", value or "")
        }
        self.links |= {str(value) for name, value in attrs if name in ("href", "src", "xlink:href", "action")}
        self.scripts += tag == "script"


def run(store, folder, command, capfd):
    """Run a command on a copy of the store; returns its status, its output, its errors, and the files that it wrote."""
    folder.mkdir()
    (folder / "out").mkdir()
    copy = folder / "r.sqlite"
    copy.write_bytes(store.read_bytes())
    words = [word.replace("OUT", str(folder / "out")).replace("STORE", str(copy)) for word in command]
    status = main(words if "--store" in command else [*words, "--store", str(copy)])
    output, error = capfd.readouterr()
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file() and path != copy}
    return status, output, error, files


@pytest.mark.parametrize(
    "name",
    # What may have slowed a night down is asked of git.
    [pytest.param(name, marks=pytest.mark.slow) if name == "check" else name for name in COMMANDS],
)
def test_nothing_of_it_has_an_effect(stores, tmp_path, capfd, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[name]
    good, bad = stores
    _, _, _, harmless = run(good, tmp_path / "good", command, capfd)
    status, output, error, files = run(bad, tmp_path / "bad", command, capfd)
    assert status in ((2,) if name in REFUSED else (0, 1, 3, 4)), error
    assert set(files) == set(harmless)
    assert {path.name for path in tmp_path.iterdir()} == {"good", "bad"}
    assert error.replace("\n", "").isprintable()
    assert "\nerror: forged" not in error
    if name != "csv":
        assert output.replace("\n", "").isprintable()
        assert "\nerror: forged" not in output
    for file, path in files.items():
        check = CHECKS.get(path.suffix)
        if check is not None:
            check(path.read_bytes().decode(), harmless[file].read_bytes().decode())
    if "--json" in command:
        assert json.loads(output)


def check_html(page: str, harmless: str) -> None:
    found, expected = Tags(page), Tags(harmless)
    assert found.elements <= expected.elements
    assert found.attributes <= expected.attributes
    assert found.scripts == expected.scripts
    assert all(link in expected.links or re.fullmatch(r"#[a-z0-9-]+", link) for link in found.links)
    assert printable_lines(page)


def printable_lines(page: str) -> bool:
    return re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page) is None


def check_xml(text: str, _: str) -> None:
    assert ElementTree.fromstring(text).tag == "testsuites"
    assert printable_lines(text)


def check_markdown(text: str, _: str) -> None:
    assert printable_lines(text)
    for mark in ("<img", "<b ", "</script", "](", "\nerror: forged"):
        assert mark not in text
    assert "@somebody" not in re.sub("<code>[^<]*</code>", "", text), "nobody is told of a name in code"


def check_csv(text: str, _: str) -> None:
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    names = [name for name, field in TrialRow.model_fields.items() if "str" in str(field.annotation)]
    texts = [row[name] for row in rows for name in names]
    assert sum(AFTER in unescape_cell(cell) for cell in texts) > len(rows)
    for cell in texts:
        assert not re.search(r"(^|[;\t\r\n])\s*[=+\-@]", cell)


def check_json(text: str, _: str) -> None:
    for line in text.splitlines() if text.startswith('{"params"') else [text]:
        assert json.loads(line)


CHECKS = {".html": check_html, ".xml": check_xml, ".md": check_markdown, ".csv": check_csv, ".json": check_json}


def test_an_export_comes_back_as_it_was(stores, tmp_path, capfd):
    """By ``fit`` and by ``ingest``, which read what ``export`` writes."""
    _, bad = stores
    assert main(["export", SWEEP, "--store", str(bad), "--out", str(tmp_path / "t.csv")]) == 0
    assert main(["export", SWEEP, "--store", str(bad), "--out", str(tmp_path / "r.json")]) == 0
    capfd.readouterr()
    assert main(["fit", str(tmp_path / "t.csv"), "--json"]) == 0
    curves = [curve["curve"] for curve in json.loads(capfd.readouterr().out)["curves"]]
    assert any(AFTER.strip() in curve for curve in curves)
    assert main(["fit", str(tmp_path / "t.csv")]) == 0
    assert capfd.readouterr().out.replace("\n", "").isprintable()
    assert main(["ingest", str(tmp_path / "r.json"), "--store", str(tmp_path / "i.sqlite")]) == 0
    output, error = capfd.readouterr()
    assert (output + error).replace("\n", "").isprintable()
