"""How the trials of a round are shared out to jobs, and what becomes of those after one that failed."""

from __future__ import annotations

import json
from pathlib import Path

from bench.node.trial_feed import FedTrial
from harness.sites.base.contract import TrialRequest, TrialResult
from harness.sites.base.packed import (
    PackedJob,
    PackedTrial,
    Round,
    UnstartedPackedJob,
    batches_by,
    listed_bytes,
    listed_trial,
    trial_list,
)
from harness.sites.base.running_trial import JobHandle, read_job_handles, save_job_handle
from tests.support.builders import make_case


def test_cases_of_one_shape_share_a_job_in_their_order_until_it_is_full():
    cases = [make_case(ranks=ranks, seed=seed) for seed, ranks in enumerate((4, 1, 4, 4, 1, 4))]
    batches = batches_by(cases, lambda case: case.ranks, lambda case: 1.0, 3)
    assert [[case.seed for case in batch] for batch in batches] == [[0, 2, 3], [5], [1, 4]]
    alone = batches_by(cases, lambda case: None, lambda case: 5.0, 3)
    assert [len(batch) for batch in alone] == [1] * 6
    assert batches_by([], lambda case: None, lambda case: 1.0, 3) == []


def test_the_list_holds_the_whole_case_and_a_port_a_trial():
    case = make_case(backend_options={"bucket_cap_mb": 3})
    trials = [TrialRequest(case, (), Path(f"sweep/00-{name}")) for name in ("a", "b")]
    text = trial_list([listed_trial(trial, case, fresh=True) for trial in trials])
    assert len(text) <= 2 * listed_bytes(case)
    assert "backend_options" in text
    assert json.loads(text)[0]["case"]["timeout_s"] == case.timeout_s, "defaults too: agents may have others"
    first, second = (FedTrial.model_validate(document) for document in json.loads(text))
    assert (first.name, first.out, first.fresh, first.case) == ("00-a", "00-a", True, case)
    assert first.variables["MASTER_PORT"] != second.variables["MASTER_PORT"]


class RecordedJob(PackedJob):
    """A job of a site whose trials end as planned: the first that does not succeed ends it."""

    def __init__(self, name, outcomes):
        self.name, self.outcomes, self.over, self.cancelled = name, outcomes, False, 0

    def wait_for(self, trial, timeout_s):
        if self.over:
            return None
        outcome = self.outcomes.pop(0)
        self.over = outcome != "ok"
        return TrialResult(outcome, f"{trial.folder.name} in {self.name}", (), (), ())

    def cancel(self):
        self.over, self.cancelled = True, self.cancelled + 1


def round_of(tmp_path, *jobs):
    """Three trials with the handles of the first job."""
    left, submitted = list(jobs), []

    def submit(trials):
        submitted.append([trial.folder.name for trial in trials])
        return left.pop(0)

    trials = []
    for name in "abc":
        (tmp_path / name).mkdir()
        trials.append(TrialRequest(make_case(seed=ord(name)), (), tmp_path / name))
        handle = JobHandle(case=trials[-1].case, round=0, handle=jobs[0].name, started_at="", began_s=0.0)
        save_job_handle(tmp_path / name, handle)
    packed = Round(submit(trials), trials, submit)
    return [PackedTrial(packed, trial) for trial in trials], submitted


def test_the_rest_of_a_round_runs_in_another_job_which_a_resumed_sweep_finds(tmp_path):
    jobs = RecordedJob("first", ["ok", "failed"]), RecordedJob("second", ["ok"])
    trials, submitted = round_of(tmp_path, *jobs)
    results = [trial.wait(1) for trial in trials]
    assert [(result.outcome, result.reason) for result in results] == [
        ("ok", "a in first"),
        ("failed", "b in first"),
        ("ok", "c in second"),
    ]
    assert submitted == [["a", "b", "c"], ["c"]]
    handles = {folder.name: handle.handle for handle, folder in read_job_handles(tmp_path).values()}
    assert handles == {"a": "first", "b": "first", "c": "second"}


def test_a_round_that_is_cancelled_ends_the_job_that_runs_it(tmp_path):
    jobs = RecordedJob("first", ["failed"]), RecordedJob("second", ["ok", "ok"])
    trials, _ = round_of(tmp_path, *jobs)
    trials[0].wait(1)
    trials[1].wait(1)
    trials[2].cancel()
    assert [job.cancelled for job in jobs] == [0, 1]


def test_a_round_that_is_refused_fails_with_the_reason(tmp_path):
    trials, submitted = round_of(tmp_path, UnstartedPackedJob("none", "no quota"))
    assert [trial.wait(1).reason for trial in trials] == ["no quota"] * 3
    assert len(submitted) == 1
