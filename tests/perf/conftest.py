"""Measures, alone or two things side by side in one run, and tells the spread. Nothing here asserts a time."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.core.case import Case, roles_to_start
from bench.plugins import registry
from harness.sites.base.contract import TrialRequest
from harness.sites.local.site import SITE
from reports.analysis.step_times import throughput_of
from tests.perf.goals import Measured, table

SHORT_TRIALS = """
repeats = 1
warmup = 2
steps = 5
telemetry = "off"
affinity = "none"
decompose = false
own_cost = false
roofline = false
"""
"""Of a suite whose trials are little more than their start."""
_told: list[str] = []
_measured: list[Measured] = []
RANK_MOMENTS = "tests.perf.rank_moments"
"""What ranks import so that they write down when they reach their parts."""


@pytest.fixture(scope="session", autouse=True)
def warm_site():
    SITE.warm(("horovod.torch", "distributed", RANK_MOMENTS))
    with pytest.MonkeyPatch.context() as patch:
        # A new process imports the file that Python was started with: of `pytest`, unlike of `python -m harness`, that
        # is all of pytest, in every rank.
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)
        yield SITE


def throughput(case: Case) -> float:
    """One trial of ours, in units per second."""
    with tempfile.TemporaryDirectory() as folder:
        request = TrialRequest(case, roles_to_start(registry.load_backend(case.backend).launch(case)), Path(folder))
        ending = SITE.start(request).wait(case.timeout_s)
    assert ending.outcome == "ok", (ending.reason, ending.log_tail)
    return throughput_of(ending.ranks)


def spread(values: Sequence[float], counted: str) -> str:
    """The median and how far the values lie apart; ``counted``: what there are so many of."""
    low, middle, high = statistics.quantiles(values, n=4)
    return (
        f"{middle:.3f} (quartiles {low:.3f}–{high:.3f}, range {min(values):.3f}–{max(values):.3f}, "
        f"{len(values)} {counted})"
    )


@pytest.fixture
def tell(request):
    """``tell(line)``: a line about this test in the summary at the end."""

    def say(line: str) -> None:
        _told.append(f"{request.node.name}: {line}")

    return say


@pytest.fixture(scope="module")
def tell_whole():
    """``tell_whole(line)``: as ``tell``, but of the tests of a file together, so that the lines make a table."""
    return _told.append


@pytest.fixture
def goal(request):
    """``goal(what, values, at_most=…)`` or ``at_least``: a row of the table of goals. ``-m goal`` chooses the tests
    that have this fixture."""

    def measured(
        what: str, values: Sequence[float], *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        _measured.append(Measured(what, tuple(values), at_most, at_least))

    return measured


def pytest_collection_modifyitems(items):
    for item in items:
        if "goal" in getattr(item, "fixturenames", ()):
            item.add_marker("goal")


@pytest.fixture
def side_by_side(benchmark, tell):
    """``side_by_side(ours, theirs, pairs, what)``: alternate, and record the ratio ours ÷ theirs of every pair."""

    def measure(ours: Callable[[], float], theirs: Callable[[], float], pairs: int, what: str) -> list[float]:
        seen: list[tuple[float, float]] = []

        def pair() -> None:
            # Which of the two goes first alternates too.
            if len(seen) % 2:
                their, our = theirs(), ours()
            else:
                our, their = ours(), theirs()
            seen.append((our, their))

        benchmark.pedantic(pair, rounds=pairs, iterations=1)
        ratios = [our / their for our, their in seen]
        benchmark.extra_info |= {"ratios": ratios, "ours": [o for o, _ in seen], "theirs": [t for _, t in seen]}
        tell(
            f"{what}: median ratio {spread(ratios, 'pairs')}; ours {statistics.median(o for o, _ in seen):.4g}, "
            f"theirs {statistics.median(t for _, t in seen):.4g}"
        )
        return ratios

    return measure


def pytest_terminal_summary(terminalreporter):
    if _told:
        terminalreporter.section("measured: medians and spreads")
        for line in _told:
            terminalreporter.write_line(line)
    if _measured:
        terminalreporter.section("goals")
        for line in table(_measured):
            terminalreporter.write_line(line)
