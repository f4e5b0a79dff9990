"""Cells whose backend is built during the sweep: they come last, and a build that fails costs no other cell."""

from __future__ import annotations

import importlib
import importlib.util
import io
import secrets

import pytest
from rich.console import Console

from bench.backends.ddp import Ddp
from bench.plugins.registry import Plugins, load_plugins
from harness.planning.plan import Plan, Skip, shuffled_rounds
from harness.store.opening import open_store
from harness.sweep.building import Build, LaterCells, builds_on_resume
from harness.sweep.prepared import PreparedSweep
from harness.sweep.progress import SweepProgress
from harness.sweep.rounds import run_sweep
from tests.support.builders import make_case
from tests.support.machine_lock import SiteHere
from tests.support.stores import begin

FIRST = [make_case(ranks=1, ranks_per_node=1, batch=size, own_cost=True) for size in (1, 2)]
WAITING = [make_case(ranks=1, ranks_per_node=1, batch=size, own_cost=True, backend="made") for size in (1, 2)]


class MadeBackend(Ddp):
    name, remedy, failed = "made", "build it", False

    def unavailable_reason(self, case):
        missing = super().unavailable_reason(case)
        return f"{missing} (the compiler failed)" if missing and self.failed else missing


class Sweep:
    """A sweep of two cells that can run and two that wait for a build, on a site without processes."""

    def __init__(self, folder, monkeypatch, works=True, cases=FIRST):
        self.seen: list[tuple[str, str]] = []
        self.module = f"module_{secrets.token_hex(4)}"  # one that was found is not looked for again
        self.backend = MadeBackend()
        self.backend.requires = (self.module,)
        loaded = load_plugins()
        self.plugins = Plugins({**loaded.backends, "made": self.backend}, loaded.workloads, ())
        monkeypatch.syspath_prepend(str(folder / "modules"))
        (folder / "modules").mkdir(exist_ok=True)
        self.folder, self.works = folder, works
        self.store = open_store(str(folder / "r.sqlite"), create=True)
        skips = tuple(Skip(case=case, reason="not built") for case in WAITING)
        plan = Plan(cases=tuple(cases), skips=skips, not_applicable=(), repeats=2)
        self.info = begin(self.store, plan=plan)
        self.site = SiteHere(self.seen, shares=True)

    def build(self, out):
        self.seen.append(("builds", ""))
        if self.works:
            (self.folder / "modules" / f"{self.module}.py").write_text("")
        self.backend.failed = not self.works
        importlib.invalidate_caches()

    def run(self):
        console = Console(file=io.StringIO(), width=200)
        builds = {self.module: Build(lambda: importlib.util.find_spec(self.module) is None, self.build)}
        sweep = PreparedSweep(self.info, self.store, self.site, self.plugins, self.folder)
        with SweepProgress(console, len(self.info.plan.cases) * 2, FIRST) as watcher:
            run_sweep(sweep, watcher, LaterCells(sweep, builds, watcher, console))
            assert watcher.total == len(self.store.trials(self.info.id))
        return console.file.getvalue()


def test_cells_that_wait_for_a_build_come_after_all_rounds_of_the_others(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path, monkeypatch)
    shown = sweep.run()
    assert [event for event, _ in sweep.seen] == ["begins", "ends"] * 4 + ["builds"] + ["begins", "ends"] * 4
    trials, info = sweep.store.trials(sweep.info.id), sweep.store.sweep(sweep.info.id)
    flags = {(trial.case.backend, trial.round): [one.name for one in trial.conditions] for trial in trials}
    assert flags == {("ddp", 0): [], ("ddp", 1): [], ("made", 0): ["measured_later"], ("made", 1): ["measured_later"]}
    assert (len(info.plan.cases), info.plan.skips) == (4, ())
    assert info.plan.later == tuple(case.key for case in WAITING)
    assert info.finished_at is not None
    assert shown.count("first results") == 2, "after the first round, and after all"
    measured_once = {(trial.case.backend, trial.round) for trial in trials if trial.case.own_cost}
    assert measured_once == {("ddp", 1), ("made", 1)}, "the first table waits for nothing that it does not show"


def test_a_build_that_fails_leaves_the_others_and_its_reason(tmp_path, monkeypatch, caplog):
    sweep = Sweep(tmp_path, monkeypatch, works=False)
    sweep.run()
    info = sweep.store.sweep(sweep.info.id)
    assert len(sweep.store.trials(sweep.info.id)) == 4
    assert len(info.plan.cases) == 2
    assert info.finished_at is not None
    assert {skip.reason for skip in info.plan.skips} == {
        f"{sweep.module} not installed: build it (the compiler failed)"
    }
    assert caplog.text.count("still skipped") == 1


def test_a_sweep_of_nothing_else_builds_at_once(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path, monkeypatch, cases=())
    assert "first results" not in sweep.run()
    assert [event for event, _ in sweep.seen] == ["builds"] + ["begins", "ends"] * 4


def test_an_interrupted_build_is_taken_up_by_the_next_start(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path, monkeypatch)
    build = sweep.build

    def interrupt(out):
        raise KeyboardInterrupt

    sweep.build = interrupt
    with pytest.raises(KeyboardInterrupt):
        sweep.run()
    info = sweep.store.sweep(sweep.info.id)
    assert info.finished_at is None
    assert len(info.plan.skips) == 2
    sweep.build = build
    sweep.info = info
    done = len(sweep.store.trials(info.id))
    assert done == 4
    console = Console(file=io.StringIO())
    builds = {sweep.module: Build(lambda: True, sweep.build)}
    prepared = PreparedSweep(info, sweep.store, sweep.site, sweep.plugins, sweep.folder)
    with SweepProgress(console, 0, FIRST) as watcher:
        run_sweep(prepared, watcher, LaterCells(prepared, builds, watcher, console))
    assert len(sweep.store.trials(info.id)) == 8


def test_nothing_is_built_for_ranks_elsewhere_or_where_it_is_there(tmp_path, monkeypatch):
    sweep = Sweep(tmp_path, monkeypatch)
    sweep.site.shares_environment = False
    sweep.run()
    assert ("builds", "") not in sweep.seen


def test_later_cells_have_rounds_of_their_own():
    cases = (*FIRST, *WAITING)
    plan = Plan(cases=cases, skips=(), not_applicable=(), repeats=2, later=tuple(case.key for case in WAITING))
    order = [(number, case.backend) for number, case in shuffled_rounds(plan, 0)]
    assert order == [(0, "ddp")] * 2 + [(1, "ddp")] * 2 + [(0, "made")] * 2 + [(1, "made")] * 2


def test_a_sweep_that_goes_on_builds_where_its_own_command_or_the_one_of_now_says_so():
    builds = {"horovod": Build(lambda: True, lambda out: None)}
    begun, other = "python -m harness sweep --build --note 'a b'", "python -m harness sweep --note 'no --build'"
    assert builds_on_resume(builds, begun, asked=False) == builds
    assert builds_on_resume(builds, other, asked=False) == {}
    assert builds_on_resume(builds, other, asked=True) == builds
    assert builds_on_resume(builds, "of somebody's \"store", asked=False) == {}
