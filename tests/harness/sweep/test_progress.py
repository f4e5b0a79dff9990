"""What people see of a running sweep, on whatever terminal."""

from __future__ import annotations

import re
from io import StringIO

import pytest

from harness.sweep.progress import SweepProgress
from reports.formats.console import TextConsole
from tests.support.builders import make_case, make_trial


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def shown(terminal: StringIO, **size: int) -> str:
    case = make_case()
    with SweepProgress(TextConsole(file=terminal, **size), 1, ()) as progress:
        progress.begins(case, 0)
        progress.ends(make_trial(case))
    return terminal.getvalue()


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_draws_nothing_gets_a_line_for_each_trial(monkeypatch, kind):
    monkeypatch.setenv("TERM", kind)
    text = shown(Terminal())
    assert text.startswith("1/1 ")
    assert "\x1b" not in text


@pytest.mark.parametrize("size", [{"width": 1, "height": 1}, {"width": 0, "height": 0}, {"width": 80, "height": 0}])
def test_a_terminal_of_no_size_gets_something(monkeypatch, size):
    monkeypatch.setenv("TERM", "xterm")
    assert shown(Terminal(), **size)


@pytest.mark.parametrize("columns", ["0", "-5", "many", ""])
def test_a_strange_width_in_the_environment_changes_no_line(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", columns)
    assert shown(StringIO()).startswith("1/1 ")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_time_left_is_that_of_the_estimate_until_a_trial_has_ended(monkeypatch, width):
    monkeypatch.setenv("TERM", "xterm")
    case, terminal = make_case(workload_options={"model": "x" * 150}), Terminal()
    with SweepProgress(TextConsole(file=terminal, width=width), 240, (), 1234.0) as progress:
        progress.begins(case, 0)
    assert "0/240 0:00:00 about 21 min left" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_trials_that_follow_are_in_the_count_and_the_time_left_before_one_of_them_has_ended(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    case, terminal = make_case(), Terminal()
    with SweepProgress(TextConsole(file=terminal, width=120), 1, ()) as progress:
        progress.began -= 100.0
        progress.ends(make_trial(case))
        progress.follow(2)
        progress.begins(case, 0)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert re.search(r"1/3 \d:\d\d:\d\d about 3 min left synthetic", drawn), drawn


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_long_title_leaves_the_bar_the_count_and_the_time_left_on_the_line(monkeypatch, width):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    case, terminal = make_case(workload_options={"model": "x" * 150}), Terminal()
    with SweepProgress(TextConsole(file=terminal, width=width), 240, ()) as progress:
        progress.begins(case, 0)
        progress.ends(make_trial(case))
        progress.begins(case, 1)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").splitlines()
    line = next(text for text in reversed(drawn) if text.strip())
    assert re.search(r"━━+ +1/240 \d:\d\d:\d\d about \d+ (s|min) left \S", line), drawn
    assert len(line) <= width


def test_where_some_trials_may_not_be_needed_the_time_left_is_the_most():
    case, output = make_case(), StringIO()
    with SweepProgress(TextConsole(file=output), 9, ()) as progress:
        progress.may_follow(9)
        progress.ends(make_trial(case))
        progress.may_follow(2)
        progress.ends(make_trial(case, 1))
    first, second = output.getvalue().splitlines()
    assert first.startswith("1/9 ")
    assert second.startswith("2/3 ")
    assert first.endswith(" left")
    assert "at most" in first
    assert "about" not in first
