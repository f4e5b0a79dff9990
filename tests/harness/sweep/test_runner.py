"""Rounds of trials: jobs that outlive the harness, and what a trial is worth that failed after its window."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from bench.backends.ddp import BACKEND
from bench.plugins.registry import Plugins
from harness.errors import HarnessError, StoreError
from harness.planning.plan import Plan
from harness.sites.base import running_trial
from harness.sites.base.contract import Job, Site, TrialResult
from harness.sites.base.running_trial import mark_suspended, read_job_handles
from harness.store.opening import open_store
from harness.store.summaries import MIN_KEPT_CASES, read_summaries
from harness.store.tables import case_summaries_table, trials_table
from harness.sweep import rounds, runner
from harness.sweep.assessment import assess_result
from harness.sweep.prepared import PreparedSweep
from harness.sweep.rounds import run_sweep
from harness.sweep.runner import Round, run_round
from reports.analysis.case_summary import summarize_case
from reports.analysis.conditions import missing_measurements, missing_reason
from tests.support.builders import make_case, make_record
from tests.support.stores import begin

CASES = [make_case(ranks=1, ranks_per_node=1, site="far"), make_case(ranks=2, ranks_per_node=1, site="far")]


class FarJob(Job):
    """A job whose end the site decides."""

    def __init__(self, site: Far, handle: str, ranks: int) -> None:
        self.site, self.handle, self.ranks = site, handle, ranks

    def wait(self, timeout_s):
        if self.site.trouble is not None:
            raise self.site.trouble
        if self.site.suspensions:
            sentence = self.site.suspensions.pop(0)
            return TrialResult("invalid", f"suspended: {sentence}", (), (), (), suspended=sentence)
        records = tuple(make_record(rank, self.ranks) for rank in range(self.ranks))
        return TrialResult("ok", None, records, (), ())

    def cancel(self):
        self.site.cancelled.append(self.handle)


class Far(Site):
    """A site whose jobs run on without the harness."""

    name, summary = "far", ""

    def __init__(self, submits_rounds=False, trouble=None, lost=(), suspensions=()):
        super().__init__()
        self.suspensions = list(suspensions)
        self._packs, self.trouble, self.lost = submits_rounds, trouble, lost
        self.started: list[str] = []
        self.cancelled: list[str] = []

    @property
    def submits_rounds(self):
        return self._packs

    def render(self, case, roles):
        return {}

    def start(self, asked):
        self.started.append(f"job{asked.case.ranks}")
        return FarJob(self, self.started[-1], asked.case.ranks)

    def reattach(self, asked, handle):
        return None if handle in self.lost else FarJob(self, handle, asked.case.ranks)


class Silent:
    def begins(self, case, round_number):
        pass

    def ends(self, trial):
        pass


def round_of(site: Site, folder: Path):
    return run_round(CASES, Round(0, site, {"ddp": BACKEND}, folder, "e"), Silent())


def test_a_job_out_of_reach_keeps_its_handle_and_is_reattached(tmp_path):
    away = Far(trouble=HarnessError("the cluster does not answer"))
    with pytest.raises(HarnessError, match="the cluster does not answer"):
        next(round_of(away, tmp_path))
    assert away.cancelled == []
    back = Far()
    trials = list(round_of(back, tmp_path))
    assert [trial.case.ranks for trial in trials] == [1, 2]
    assert back.started == ["job2"], "the first was there already"
    assert read_job_handles(tmp_path) == {}


class Sorted(Far):
    """A site whose batches hold the trials of one size, the larger ones first."""

    def batches(self, cases):
        return [[case] for case in sorted(cases, key=lambda case: -case.ranks)]


def test_batches_are_submitted_one_after_another(tmp_path):
    site = Sorted()
    trials = round_of(site, tmp_path)
    assert next(trials).case.ranks == 2
    assert site.started == ["job2"]
    assert next(trials).case.ranks == 1
    assert site.started == ["job2", "job1"]


def test_a_packed_round_out_of_reach_is_found_again_as_a_whole(tmp_path):
    away = Far(submits_rounds=True, trouble=HarnessError("away"))
    with pytest.raises(HarnessError, match=r"^away$"):
        next(round_of(away, tmp_path))
    assert (away.started, away.cancelled) == (["job1", "job2"], [])
    back = Far(submits_rounds=True, lost=["job1"])
    assert [trial.case.ranks for trial in round_of(back, tmp_path)] == [2, 1], "the one that was found goes on first"
    assert back.started == ["job1"]
    assert read_job_handles(tmp_path) == {}


@pytest.mark.parametrize("submits_rounds", [False, True])
def test_an_interrupted_round_cancels_what_it_submitted_and_leaves_no_handle(tmp_path, submits_rounds):
    site = Far(submits_rounds, trouble=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        next(round_of(site, tmp_path))
    assert sorted(site.cancelled) == sorted(site.started) == ["job1", "job2"][: 1 + submits_rounds]
    assert read_job_handles(tmp_path) == {}


def test_a_trial_that_was_not_stored_keeps_its_handle(tmp_path):
    trials = round_of(Far(), tmp_path)
    next(trials)
    trials.close()
    assert [claim.handle for claim, _ in read_job_handles(tmp_path).values()] == ["job1"]


def test_the_handle_of_a_lost_job_is_replaced(tmp_path):
    with pytest.raises(HarnessError, match=r"^away$"):
        next(round_of(Far(trouble=HarnessError("away")), tmp_path))
    again = Far(trouble=HarnessError("away again"), lost=["job1"])
    with pytest.raises(HarnessError, match=r"^away again$"):
        next(round_of(again, tmp_path))
    assert again.started == ["job1"]
    assert len(list(tmp_path.glob("*/claim.json"))) == 1


def test_a_reattached_trial_counts_from_its_submission(tmp_path):
    with pytest.raises(HarnessError, match=r"^away$"):
        next(round_of(Far(trouble=HarnessError("away")), tmp_path))
    (claim, folder) = next(iter(read_job_handles(tmp_path).values()))
    earlier = claim.model_copy(update={"began_s": claim.began_s - 1000})
    (folder / "claim.json").write_text(earlier.model_dump_json())
    first = next(round_of(Far(), tmp_path))
    assert first.wall_s > 1000
    assert first.started_at == claim.started_at


@pytest.mark.parametrize("submits_rounds", [False, True])
@pytest.mark.parametrize("set_by_s", [-7200, 1.5])
def test_a_clock_that_is_set_meanwhile_changes_no_duration(tmp_path, monkeypatch, submits_rounds, set_by_s):
    class Setting(Far):
        def start(self, asked):
            right = time.time()
            monkeypatch.setattr(time, "time", lambda: right + set_by_s)
            return super().start(asked)

    for trial in round_of(Setting(submits_rounds), tmp_path):
        assert 0 <= trial.wall_s < 1


def test_nor_is_that_of_a_reattached_trial_negative(tmp_path):
    with pytest.raises(HarnessError, match=r"^away$"):
        next(round_of(Far(trouble=HarnessError("away")), tmp_path))
    (claim, folder) = next(iter(read_job_handles(tmp_path).values()))
    later = claim.model_copy(update={"began_s": claim.began_s + 1000})
    (folder / "claim.json").write_text(later.model_dump_json())
    assert next(round_of(Far(), tmp_path)).wall_s == 0


@pytest.mark.parametrize("submits_rounds", [False, True])
def test_a_trial_that_was_suspended_is_taken_again_and_says_so(tmp_path, caplog, submits_rounds):
    site = Far(submits_rounds, suspensions=["the supervisor of the ranks on n1 did not run for 61 s"])
    caplog.set_level("WARNING", logger="scaling_harness")
    first, second = round_of(site, tmp_path)
    assert (first.outcome, second.outcome) == ("ok", "ok")
    assert sorted(site.started) == ["job1", "job1", "job2"]
    (condition,) = first.conditions
    assert condition.name == "taken_again"
    assert condition.seen.endswith("n1 did not run for 61 s")
    assert second.conditions == ()
    assert "n1 did not run for 61 s; this trial is taken again" in caplog.text
    assert list(tmp_path.iterdir()) == [], "the files of the discarded attempt are gone too"


def test_a_trial_that_is_suspended_every_time_is_no_slow_one(tmp_path):
    site = Far(suspensions=[f"rank 0 was stopped by a signal for {seconds} s" for seconds in (5, 6, 7)])
    first = next(round_of(site, tmp_path))
    assert (first.outcome, first.reason) == ("invalid", "suspended: rank 0 was stopped by a signal for 7 s")
    assert site.started == ["job1"] * 3
    assert [condition.name for condition in first.conditions] == ["taken_again"] * 2


def cut_short(ranks, outcome="failed", reason="rank 1 was killed by SIGKILL in the decomposition"):
    """A trial that failed after the window: rank 0 came to its end, the others left what they had."""
    missing = {"decomposition": "the rank ended before it was measured"}
    records = [make_record(0, 2, failed_at=9.0, missing={"decomposition": "RuntimeError: connection reset"})]
    records += [make_record(rank, 2, complete=False, missing=missing) for rank in range(1, ranks)]
    return TrialResult(outcome, reason, tuple(records), (), ())


@pytest.mark.parametrize("outcome", ["failed", "timeout"])
def test_a_window_that_every_rank_measured_stands_whatever_fails_afterwards(outcome):
    case = make_case(ranks=2)
    assert assess_result(cut_short(2, outcome), case)[:2] == ("ok", None)
    reasons = [condition.seen for condition in missing_measurements(cut_short(2).ranks, "rank 1 was killed")]
    assert reasons == [
        "after the measured window: rank 1 was killed",
        "decomposition: rank 0: RuntimeError: connection reset",
    ]


def test_a_trial_that_failed_in_the_window_or_while_leaving_has_failed():
    case = make_case(ranks=2)
    assert assess_result(cut_short(1), case)[0] == "failed"
    left = TrialResult("failed", "rank 1 was killed", tuple(make_record(rank, 2) for rank in range(2)), (), ())
    assert assess_result(left, case)[0] == "failed"


def test_the_rank_that_failed_first_says_why_a_measurement_is_missing():
    ranks = [make_record(rank, 3, missing={"overhead": f"why {rank}"}, failed_at=9.0 - rank) for rank in range(3)]
    assert missing_reason(ranks, "overhead") == "rank 2: why 2"
    # A rank that only heard of the failure has no time of its own.
    told = make_record(0, 2, missing={"overhead": "elsewhere"})
    assert missing_reason([told, ranks[1]], "overhead") == "rank 1: why 1"
    assert missing_reason(ranks, "roofline") is None


@pytest.mark.parametrize("outcome", ["failed", "timeout"])
def test_what_was_lost_while_the_harness_did_not_run_is_no_failure(outcome):
    lost = mark_suspended(TrialResult(outcome, "node 1 is gone", (), (), ()), 61.0)
    assert (lost.outcome, lost.suspended) == ("invalid", "the harness did not run for 61 s")
    assert lost.reason == "suspended: the harness did not run for 61 s; node 1 is gone"
    assert mark_suspended(TrialResult(outcome, "node 1 is gone", (), (), ()), 0.0).suspended is None
    good = TrialResult("ok", None, (), (), ())
    assert mark_suspended(good, 61.0) is good, "it ran elsewhere"


def test_a_trial_that_can_not_be_stored_is_kept_until_its_sweep_is_resumed(tmp_path):
    path, folder, site = tmp_path / "r.sqlite", tmp_path / "runs", Far()
    folder.mkdir()
    store = open_store(f"sqlite:///{path}?timeout=0.2", create=True)
    plan = Plan(cases=(CASES[0],), skips=(), not_applicable=(), repeats=2)
    info = begin(store).model_copy(update={"plan": plan})

    def run():
        run_sweep(PreparedSweep(info, store, site, Plugins({"ddp": BACKEND}, {}, []), folder), Silent())

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreError, match="database is locked"):
            run()
    assert len(site.started) == 1
    assert store.trials(info.id) == []
    (kept,) = folder.glob("unstored-*.json")
    (folder / "unstored-damaged.json").write_text(kept.read_text()[:100])
    run()
    assert len(site.started) == 2, "only the trial that had not run"
    assert [trial.round for trial in store.trials(info.id)] == [0, 1]
    assert not kept.exists()
    store.close()


def test_of_a_large_sweep_a_case_is_summarized_with_its_last_trial(tmp_path):
    cases = [make_case(ranks=1, workload_options={"width": width}) for width in range(MIN_KEPT_CASES)]
    before, running = cases[:-3], cases[-3:]
    plan = Plan(cases=tuple(cases), skips=(), not_applicable=(), repeats=2)
    with closing(open_store(str(tmp_path / "r.sqlite"), create=True)) as store:
        info = begin(store, plan=plan)
        with store.database.writing("") as connection:
            row = {"sweep": info.id, "outcome": "ok", "body": "{}"}
            rows = [{**row, "key": case.key, "round": number} for case in before for number in range(2)]
            connection.execute(trials_table.insert(), rows)

        def kept() -> int:
            with store.database.reading() as connection:
                return connection.execute(sa.select(sa.func.count()).select_from(case_summaries_table)).scalar_one()

        class Watching(Silent):
            def __init__(self) -> None:
                self.kept: list[int] = []

            def ends(self, trial):
                self.kept.append(kept())

        watching = Watching()
        run_sweep(PreparedSweep(info, store, Far(), Plugins({"ddp": BACKEND}, {}, []), tmp_path), watching)
        assert [*watching.kept, kept()] == [0, 0, 0, 0, 1, 2, 3]
        again: list[str] = []
        seen = {case.key for case in running}
        found = read_summaries(store, info.id, cases, seen, lambda key, trials: again.append(key), lambda made: None)
        assert not seen & set(again), "their trials are not read again"
        trials = store.trials_of_cases(info.id, list(seen))
        assert all(found[case.key] == summarize_case(case, trials[case.key]) for case in running)


class Interrupting:
    """Interrupts this process once, at the given line of those that the modules run."""

    def __init__(self, line: int, *modules) -> None:
        self.left, self.files = line, {module.__file__ for module in modules}

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self


def test_whenever_an_interrupt_comes_no_job_is_left_behind(tmp_path):
    """At each line in turn of what starts trials, waits for them and stores them."""
    store = open_store(f"sqlite:///{tmp_path / 'r.sqlite'}", create=True)
    plan = Plan(cases=tuple(CASES), skips=(), not_applicable=(), repeats=1)
    interrupted = 0
    for line in itertools.count(1):
        site, folder = Far(), tmp_path / str(line)
        info = begin(store, f"sweep{line}").model_copy(update={"plan": plan})
        tracing = Interrupting(line, rounds, runner, running_trial)
        before = sys.gettrace()
        sys.settrace(tracing)
        try:
            run_sweep(PreparedSweep(info, store, site, Plugins({"ddp": BACKEND}, {}, []), folder), Silent())
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        stored = [f"job{trial.case.ranks}" for trial in store.trials(info.id)]
        assert set(site.started) <= {*site.cancelled, *stored}, f"interrupted at line {line}"
        if tracing.left > 0:
            break
        assert {claim.handle for claim, _ in read_job_handles(folder).values()} <= set(stored), f"line {line}"
    assert interrupted > 50
    assert stored == ["job1", "job2"] or stored == ["job2", "job1"]
    store.close()
