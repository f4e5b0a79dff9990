"""Texts that people read use one word for one thing, and numbers are formatted in one place.

See docs/reference/glossary.md and reports/analysis/formatting.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RETIRED = {
    "can't be told from": "statistically tied",
    "harness's own cost": "overhead of measuring",
    "largest misfit": "largest error of the fit",
    "typical misfit": "typical error of the fit",
    "host-bound": "launch-bound",
    "host bound": "launch-bound",
    "device waits for the host": "launch-bound",
    "own work of": "compute of",
    "global efficiency": "efficiency",
    "foretold": "prediction",
    "hidden communication": "exposed communication",
}
"""What texts said before, and what they say now. Keys of documents keep their names."""
TERMS = (
    "exposed communication",
    "extrapolated",
    "launch-bound",
    "load imbalance",
    "noisy host",
    "poor fit",
    "prediction",
    "statistically tied",
)
TEXT_ROOMS = ("reports", "harness/cli", "harness/sweep", "harness/publish")
OWN_FORMATS = {
    "reports/analysis/formatting.py": "it is the place",
    "reports/analysis/changes.py": "changes and parts, beside it",
    "reports/page/figure_axes.py": "ticks of an axis, as many digits as they need",
    "reports/page/plotly_traces.py": "formats that plotly.js reads",
    "reports/page/svg.py": "pixels",
    "reports/formats/summary/standalone_svg.py": "pixels",
    "reports/formats/summary/figures.py": "pixels",
    "reports/formats/summary/badge.py": "pixels",
}
"""Files of reports that format numbers by themselves, and why."""
PERCENT = re.compile(r"%\}|\.\d+f\} ?%|\.\d*g\} ?%")


def strings(file: Path) -> Iterator[str]:
    """The string literals of a module, without docstrings, and without single words, which may be keys of documents."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in statements
            and " " in node.value
        ):
            yield node.value


def texts() -> dict[str, str]:
    """What people read, by file: documentation, and the literals of modules that make pages, tables and messages."""
    found = {}
    for file in (*ROOT.glob("docs/**/*.md"), ROOT / "README.md", *ROOT.glob("reports/page/templates/*.html")):
        found[str(file.relative_to(ROOT))] = file.read_text(encoding="utf-8")
    for room in TEXT_ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            found[str(file.relative_to(ROOT))] = "\n".join(strings(file))
    return found


@pytest.fixture(scope="module")
def texts_by_file():
    return texts()


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_does_not_come_back(texts_by_file, word):
    pattern = re.compile(rf"(?<![\w`]){re.escape(word)}(?!\w)", re.IGNORECASE)
    found = [name for name, text in texts_by_file.items() if pattern.search(re.sub(r"\s+", " ", text))]
    assert not found, f"say {RETIRED[word]!r}"


@pytest.mark.parametrize("term", TERMS)
def test_the_words_in_use_are_in_the_glossary(term):
    assert f"| {term} |" in (ROOT / "docs/reference/glossary.md").read_text(encoding="utf-8")


def test_percentages_are_formatted_in_one_place():
    """An own ``f"{100 * x:.0f} %"`` has its own number of digits, and its own way with intervals."""
    found = {
        f"{name}:{number}"
        for file in (ROOT / "reports").rglob("*.py")
        if (name := str(file.relative_to(ROOT))) not in OWN_FORMATS
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if PERCENT.search(line)
    }
    assert found == set()


def test_plurals_are_formed_in_one_place():
    own = re.compile(r"\{'s' \* |\{\"s\" \* ")
    found = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "reports").rglob("*.py")
        if own.search(file.read_text(encoding="utf-8"))
    }
    assert found == set()
