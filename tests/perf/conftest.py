"""Measures two things side by side in one run and reports their ratio with its spread. Nothing here asserts a time."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import registry
from bench.records import Case
from harness.sites.local import SITE
from reports.cells import throughput_of

_told: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def warm_site():
    SITE.warm(("horovod.torch", "distributed"))
    return SITE


def throughput(case: Case) -> float:
    """One trial of ours, in units per second."""
    with tempfile.TemporaryDirectory() as folder:
        ending = SITE.start(case, registry.load_backend(case.backend).launch(case), Path(folder)).wait(case.timeout_s)
    assert ending.outcome == "ok", (ending.reason, ending.log_tail)
    return throughput_of(ending.ranks)


@pytest.fixture
def side_by_side(benchmark, request):
    """``side_by_side(ours, theirs, pairs)``: alternate, and record the ratio ours ÷ theirs of every pair."""

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
        low, middle, high = statistics.quantiles(ratios, n=4)
        benchmark.extra_info |= {"ratios": ratios, "ours": [o for o, _ in seen], "theirs": [t for _, t in seen]}
        _told.append(
            f"{request.node.name}: {what}: median ratio {middle:.3f} (quartiles {low:.3f}–{high:.3f}, range "
            f"{min(ratios):.3f}–{max(ratios):.3f}, {pairs} pairs); ours {statistics.median(o for o, _ in seen):.4g}, "
            f"theirs {statistics.median(t for _, t in seen):.4g}"
        )
        return ratios

    return measure


def pytest_terminal_summary(terminalreporter):
    if _told:
        terminalreporter.section("ratios, measured side by side")
        for line in _told:
            terminalreporter.write_line(line)
