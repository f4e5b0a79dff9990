"""Where the time of a trial goes, part by part, from the request to the next one: the table behind the goal.

The whole command runs in this process, with marks in the harness and in its ranks (:mod:`tests.perf.rank_moments`).
Times are those of the rank that gets there last. What is warm-up or window counts as steps; all else is beside them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from bench.node.supervisor import ProcessGroup
from harness.cli.app import main
from harness.sites.base.running_trial import RunningTrial
from harness.sites.local import site
from harness.store.store import Store
from harness.sweep import runner

REPEATS = 12
GOALS_S = {"ddp": 0.15, "horovod": 0.25}
SUITE = """
backends = ["{backend}"]
workloads = ["synthetic"]
ranks = [2]
threads = 1
repeats = {repeats}
batch = 32
window_s = 0.3
decompose = false
own_cost = false
roofline = false
"""
STEPS = ("warm-up step", "measured step")


class Marks:
    """Moments of the harness's own process, one list a trial."""

    def __init__(self) -> None:
        self.trials: list[list[tuple[str, float]]] = []
        self.ranks: list[dict[str, list[tuple[str, float]]]] = []

    def note(self, name: str) -> None:
        if name == "request":
            self.trials.append([])
            self.ranks.append({})
        if self.trials:
            self.trials[-1].append((name, time.monotonic()))

    def read(self, running: RunningTrial) -> None:
        for path in running.folder.glob("moments-*.json"):
            self.ranks[-1][path.stem] = [tuple(item) for item in json.loads(path.read_text())]


@contextmanager
def marked(marks: Marks) -> Iterator[None]:
    """Marks before or after what the harness calls in a trial."""

    def around(call: Callable[..., Any], before: str = "", after: str = "") -> Callable[..., Any]:
        def noted(*arguments: Any, **named: Any) -> Any:
            if before:
                marks.note(before)
            result = call(*arguments, **named)
            if after:
                marks.note(after)
            return result

        return noted

    def clear(self: RunningTrial, *, succeeded: bool) -> None:
        marks.read(self)
        plain_clear(self, succeeded=succeeded)
        marks.note("removed")

    plain_clear = RunningTrial.clear
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(runner, "start_trial", around(runner.start_trial, "request", "started"))
        patch.setattr(ProcessGroup, "_build_exit_report", around(ProcessGroup._build_exit_report, "", "report built"))
        patch.setattr(ProcessGroup, "_wait_for_end", around(ProcessGroup._wait_for_end, "", "end seen"))
        patch.setattr(ProcessGroup, "watch", around(ProcessGroup.watch, "", "watched"))
        patch.setattr(ProcessGroup, "end", around(ProcessGroup.end, "", "ended"))
        patch.setattr(site, "gather_result", around(site.gather_result, "", "gathered"))
        patch.setattr(runner, "assess_trial", around(runner.assess_trial, "", "assessed"))
        patch.setattr(Store, "add_trial", around(Store.add_trial, "", "stored"))
        patch.setattr(RunningTrial, "clear", clear)
        yield


def parts_of(
    own: list[tuple[str, float]], ranks: dict[str, list[tuple[str, float]]], next_s: float
) -> dict[str, float]:
    """Seconds of each part, in the order of time: from the last rank's mark to the next mark."""
    moments = dict(reversed(own))
    of_ranks = [dict(reversed(seen)) for name, seen in ranks.items() if "-rank-" in name]
    for name in of_ranks[0]:
        moments[name] = max(rank[name] for rank in of_ranks)
    ordered = sorted((at_s, name) for name, at_s in moments.items())
    ends = [at_s for at_s, _ in ordered[1:]] + [next_s]
    return {name: end_s - at_s for (at_s, name), end_s in zip(ordered, ends, strict=True)}


@pytest.mark.parametrize("backend", GOALS_S)
def test_parts_of_a_trial(tell_whole, goal, tmp_path, monkeypatch, backend):
    (tmp_path / "suite.toml").write_text(SUITE.format(backend=backend, repeats=REPEATS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["scaling-harness", "sweep", "suite.toml"])
    marks = Marks()
    with marked(marks):
        status = main()
    assert status == 0
    rows: dict[str, list[float]] = defaultdict(list)
    beside: list[float] = []
    # The forkserver loads the frameworks during the first one.
    for number in range(1, REPEATS):
        own, ranks = marks.trials[number], marks.ranks[number]
        next_s = marks.trials[number + 1][0][1] if number + 1 < REPEATS else own[-1][1]
        parts = parts_of(own, ranks, next_s)
        for name, part_s in parts.items():
            rows[name].append(part_s)
        beside.append(sum(part_s for name, part_s in parts.items() if name not in STEPS))
    tell_whole(f"{backend} at 2 ranks, milliseconds from each mark to the next: median (quartiles) of {len(beside)}")
    for name, values in rows.items():
        low, middle, high = (1000 * value for value in statistics.quantiles(values, n=4))
        tell_whole(f"  {name:34} {middle:7.1f} ({low:.1f}–{high:.1f})")
    low, middle, high = statistics.quantiles(beside, n=4)
    tell_whole(f"  beside the steps {middle:.3f} s ({low:.3f}–{high:.3f})")
    goal(f"{backend}, 2 ranks: a cell beside its steps, s", beside, at_most=GOALS_S[backend])
