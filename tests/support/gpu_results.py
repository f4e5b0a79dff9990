"""What tests/gpu has measured: a journal of JSON lines, and the page docs/gpu-results.md that is written from it.

    python -m tests.support.gpu_results        write the page again, after a test was added or removed

A line is appended as soon as its figure is known, so that a run that is cut off leaves all that it has measured. Runs
of a part of the tests add up: a test shows the figures of the last run that it took part in.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.core.text import one_line
from reports.analysis.formatting import number
from tests.support.paths import ROOT

TESTS = ROOT / "tests" / "gpu"
PAGE = ROOT / "docs" / "gpu-results.md"
ORDER = ("clock", "throughput", "backends", "launch", "telemetry", "energy")
"""What is measured first where the time is short, by the names of the files (``test_clock.py``); others follow."""
LONGEST_TEXT = 300
HEADER = """\
# Results on a GPU

What `tox run -e gpu` measured ([how to run it](how-to/gpu.md)). Intervals are of 95 %. A goal that was missed is
marked, and its test failed.
"""
NEVER_RUN = """\
**These tests have not been run on a GPU yet: nothing below has been measured.**
"""


@dataclass(frozen=True)
class Figure:
    """One measured number. ``low``, ``high``: its interval; ``at_least``, ``at_most``: its goal."""

    test: str
    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        """Whether there is a goal that the value does not reach; a value that is not a number reaches none."""
        reaches = (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )
        return not reaches

    @property
    def goal(self) -> str:
        bounds = (("≥", self.at_least), ("≤", self.at_most))
        return " and ".join(f"{sign} {number(bound)}" for sign, bound in bounds if bound is not None)


@dataclass(frozen=True)
class Outcome:
    """How a test ended: ``passed``, ``failed`` or ``skipped``, and why."""

    test: str
    outcome: str
    reason: str = ""
    duration_s: float = 0.0


@dataclass
class Run:
    """One session on a device. ``machine``: what identifies it, as names and texts."""

    machine: Mapping[str, str]
    figures: list[Figure] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def tests(self) -> set[str]:
        return {entry.test for entry in (*self.figures, *self.outcomes)}


class Journal:
    """The file of JSON lines. Each call of a method has reached the disk when it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, machine: Mapping[str, str]) -> None:
        self._append({"machine": dict(machine)})

    def record(self, entry: Figure | Outcome) -> None:
        self._append({type(entry).__name__.lower(): asdict(entry)})

    def _append(self, line: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # On a line of its own, whatever a run that was cut off has left.
            file.write("\n" * ("machine" in line) + json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def runs(self) -> list[Run]:
        """All runs, the oldest first. Lines that were cut off are left out."""
        runs: list[Run] = []
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "machine" in entry:
                runs.append(Run(entry["machine"]))
            elif "figure" in entry:
                runs[-1].figures.append(Figure(**entry["figure"]))
            else:
                runs[-1].outcomes.append(Outcome(**entry["outcome"]))
        return runs


def rank_of(file: str) -> tuple[int, str]:
    """The place of a file of tests in a run, as a key for sorting."""
    area = area_of(file)
    return (ORDER.index(area) if area in ORDER else len(ORDER), area)


def area_of(file: str) -> str:
    return Path(file).stem.removeprefix("test_")


def list_tests(folder: Path = TESTS) -> dict[str, str]:
    """Every test of the folder with what it measures, read from the sources: the first line of its docstring.

    Returns: Test (``test_clock.py::test_name``) to text, in the order of a run.
    """
    tests = {}
    for path in sorted(folder.glob("test_*.py"), key=lambda path: rank_of(path.name)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = (ast.get_docstring(node) or "").partition("\n")[0].removesuffix(".")
                tests[f"{path.name}::{node.name}"] = text or node.name.removeprefix("test_").replace("_", " ")
    return tests


def render(runs: Sequence[Run], tests: Mapping[str, str]) -> str:
    """The page (pure).

    Args:
        runs: All runs, the oldest first.
        tests: What there is to measure, from :func:`list_tests`. Figures of tests that are gone are left out.
    """
    last: dict[str, int] = {
        test: index for index, run in enumerate(runs) for test in run.tests() if base(test) in tests
    }
    blocks = [HEADER, NEVER_RUN if not last else _machines(runs, set(last.values()))]
    for area in dict.fromkeys(area_of(test.partition("::")[0]) for test in tests):
        blocks.append(f"## {area.replace('_', ' ').capitalize()}\n")
        here = {test: text for test, text in tests.items() if area_of(test.partition("::")[0]) == area}
        blocks += _area(here, runs, last)
    return "\n".join(blocks)


def base(test: str) -> str:
    """A test without its parameters."""
    return test.partition("[")[0]


def _machines(runs: Sequence[Run], shown: set[int]) -> str:
    names = list(dict.fromkeys(name for index in sorted(shown) for name in runs[index].machine))
    rows = [[str(index + 1), *(runs[index].machine.get(name, "") for name in names)] for index in sorted(shown)]
    return _table(["run", *names], rows)


def _area(tests: Mapping[str, str], runs: Sequence[Run], last: Mapping[str, int]) -> Iterable[str]:
    """The figures of one file, then its tests without a figure and why."""
    rows, others = [], []
    for test, text in tests.items():
        instances = [instance for instance in last if base(instance) == test]
        if not instances:
            others.append(f"- {_cell(text)}: not measured yet")
        for instance in instances:
            run = runs[last[instance]]
            figures = [figure for figure in run.figures if figure.test == instance]
            rows += [_row(figure, last[instance] + 1) for figure in figures]
            ending = next((outcome for outcome in run.outcomes if outcome.test == instance), None)
            place = f"{_cell(text)} (`{instance.partition('::')[2]}`)"
            if ending is None:
                others.append(f"- {place}: **cut off** in run {last[instance] + 1}")
            elif ending.outcome != "passed" or not figures:
                reason = f": {_cell(ending.reason)}" if ending.reason else ""
                shown = ending.outcome if ending.outcome != "failed" else "**failed**"
                others.append(f"- {place}: {shown} in run {last[instance] + 1}{reason}")
    if rows:
        yield _table(["figure", "value", "interval", "goal", "run", "note"], rows)
    if others:
        yield "\n".join(others) + "\n"


def _row(figure: Figure, run: int) -> list[str]:
    unit = "" if figure.unit in ("", "1", "×") else f" {figure.unit}"
    interval = "" if figure.low is None or figure.high is None else f"{number(figure.low)}–{number(figure.high)}"
    goal = f"{figure.goal}{', **missed**' if figure.missed else ''}"
    return [figure.name, f"{number(figure.value)}{unit}", interval, goal, str(run), figure.note]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return one_line(text, LONGEST_TEXT).replace("|", "\\|").replace("<", "&lt;")


def write_page(journal: Path, page: Path) -> None:
    """Write the page from its journal; a reader never finds a part of it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f".{page.name}.partial")
    partial.write_text(render(Journal(journal).runs(), list_tests()), encoding="utf-8")
    partial.replace(page)


if __name__ == "__main__":
    write_page(PAGE.with_suffix(".jsonl"), PAGE)
