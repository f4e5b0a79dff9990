"""The run on a GPU without one: what its page shows, and what is left of a run that ends early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.alternating import alternating_ratio
from tests.support.gpu_results import PAGE, Figure, Journal, Outcome, Run, list_tests, rank_of, render
from tests.support.paths import ROOT

TESTS = {"test_clock.py::test_events": "Cost of events", "test_zeta.py::test_z": "Something else"}
FIGURE = Figure("test_clock.py::test_events[64]", "events | batch 64", 0.42, "%", 0.4, 0.44, at_most=0.5)


def test_the_page_of_a_suite_that_never_ran_names_what_there_is_to_measure():
    page = render([], TESTS)
    assert "have not been run" in page
    assert "- Cost of events: not measured yet" in page
    assert "- Something else: not measured yet" in page
    assert "| figure |" not in page


def test_figures_stand_beside_their_goals_and_the_machine_of_their_run():
    old = Run({"device": "old"}, [Figure(FIGURE.test, "events", 9.0, "%", at_most=0.5)])
    new = Run({"device": "H200", "driver": "580"}, [FIGURE], [Outcome(FIGURE.test, "passed")])
    page = render([old, new], TESTS)
    assert r"| events \| batch 64 | 0.420 % | 0.400–0.440 | ≤ 0.500 | 2 |  |" in page
    assert "| 2 | H200 | 580 |" in page
    assert "old" not in page, "a test shows its last run alone"
    assert "have not been run" not in page
    assert "- Something else: not measured yet" in page


def test_missed_goals_failures_and_tests_that_were_cut_off_are_marked():
    figures = [Figure("test_zeta.py::test_z", "ratio", float("nan"), "×", at_least=0.98)]
    page = render([Run({}, figures, [Outcome("test_zeta.py::test_z", "failed", "worse\n| than <b>")])], TESTS)
    assert "≥ 0.980, **missed**" in page
    assert r"**failed** in run 1: worse \| than &lt;b>" in page
    assert "**cut off** in run 1" in render([Run({}, figures)], TESTS)
    assert render([Run({}, figures)], {}) == render([], {}), "figures of tests that are gone are left out"


def test_a_journal_keeps_all_up_to_the_line_that_was_cut_off(tmp_path):
    journal = Journal(tmp_path / "new" / "results.jsonl")
    assert journal.runs() == []
    journal.begin({"device": "H200"})
    journal.record(FIGURE)
    journal.record(Outcome(FIGURE.test, "passed"))
    whole = journal.runs()
    assert whole == [Run({"device": "H200"}, [FIGURE], [Outcome(FIGURE.test, "passed")])]
    with journal.path.open("a") as file:
        file.write('{"figure": {"test"')
    assert journal.runs() == whole


def test_a_journal_that_was_cut_off_is_written_on(tmp_path):
    journal = Journal(tmp_path / "results.jsonl")
    journal.begin({"device": "H200"})
    with journal.path.open("a") as file:
        file.write('{"figure": {"test"')
    journal.begin({"device": "H100"})
    journal.record(FIGURE)
    assert [run.machine["device"] for run in journal.runs()] == ["H200", "H100"]


def test_the_most_important_files_run_first(tmp_path):
    files = ["test_aaa.py", "test_energy.py", "test_clock.py"]
    assert sorted(files, key=rank_of) == ["test_clock.py", "test_energy.py", "test_aaa.py"]
    for name in files:
        (tmp_path / name).write_text(f'def test_{name[5:8]}_costs():\n    """What {name} measures.\n\n    More."""\n')
    (tmp_path / "test_aaa.py").write_text("def test_no_docstring(): pass\n")
    listed = list_tests(tmp_path)
    assert list(listed.values()) == ["What test_clock.py measures", "What test_energy.py measures", "no docstring"]


def test_measurements_in_turns():
    calls: list[str] = []
    ours, theirs = iter([2.0, 4.0, 6.0, 8.0]), iter([1.0, 2.0, 2.0, 4.0])
    result = alternating_ratio(
        lambda: calls.append("ours") or next(ours), lambda: calls.append("theirs") or next(theirs), 4
    )
    assert calls == ["ours", "theirs", "theirs", "ours"] * 2
    assert result.ratios == (2.0, 2.0, 3.0, 2.0)
    assert result.median == 2.0
    assert result.low <= result.median <= result.high


@pytest.fixture
def run(tmp_path):
    """Run made-up tests with the real settings of tests/gpu; without ``--dry-run`` they find no device."""
    folder = tmp_path / "gpu"
    folder.mkdir()
    (folder / "conftest.py").write_text((ROOT / "tests" / "gpu" / "conftest.py").read_text())

    def call(source: str, *options: str, start: Path = folder) -> subprocess.CompletedProcess[str]:
        (folder / "test_clock.py").write_text(source)
        command = [sys.executable, "-m", "pytest", str(start), "-rA", "-p", "no:cacheprovider", *options]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return call


TWO_TESTS = '''
import os, signal
def test_first(record_figure):
    """First."""
    record_figure("share", 0.9, "×", at_least=0.98)
    record_figure("rate", 5, "steps/s")
def test_second(record_figure):
    record_figure("before", 1, "s")
    os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.mark.slow
def test_without_a_device_every_test_is_skipped_by_name(run, tmp_path):
    for start in (tmp_path / "gpu", tmp_path):
        done = run(TWO_TESTS, start=start)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 skipped" in done.stdout
        assert "needs a CUDA device: torch" in done.stdout


@pytest.mark.slow
def test_what_was_measured_before_a_run_died_is_kept(run, tmp_path):
    page = tmp_path / "results.md"
    done = run(TWO_TESTS, "--dry-run", "--gpu-results", str(page))
    assert done.returncode == -9
    (kept,) = Journal(page.with_suffix(".jsonl")).runs()
    assert "dry run" in kept.machine["device"]
    assert [figure.name for figure in kept.figures] == ["share", "rate", "before"]
    assert [outcome.outcome for outcome in kept.outcomes] == ["passed"], "a dry run has no goals"


@pytest.mark.slow
def test_after_the_time_limit_no_test_starts(run, tmp_path):
    page = tmp_path / "results.md"
    done = run(TWO_TESTS, "--dry-run", "--gpu-results", str(page), "--gpu-time-limit", "0")
    assert done.returncode == 0
    assert "the time limit of 0 s is over" in done.stdout
    assert Journal(page.with_suffix(".jsonl")).runs() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--wheel", "x"], "unknown option --wheel; --help lists them"),
        (["--wheels", "/nonexistent"], "--wheels /nonexistent: there is no such folder; --download makes it"),
        (["--limit", "10m"], "--limit 10m: a number of seconds, such as 600"),
        (["--results"], "--results needs a value"),
        (["--python", "no-such-python"], "--python no-such-python: there is no such program"),
    ],
)
def test_the_run_without_a_network_refuses_what_it_does_not_know(arguments, problem):
    done = subprocess.run(
        [str(ROOT / "tests" / "gpu" / "run.sh"), *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, f"tests/gpu/run.sh: {problem}\n")


def test_the_page_shows_the_journal_and_names_every_test():
    """After a test of tests/gpu was added, renamed or removed: ``python -m tests.support.gpu_results``."""
    assert PAGE.read_text(encoding="utf-8") == render(Journal(PAGE.with_suffix(".jsonl")).runs(), list_tests())
