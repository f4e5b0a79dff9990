"""The diagnosis of a trial, from what its processes left."""

from __future__ import annotations

from pathlib import Path

from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.records import RankFailure
from bench.rank.progress import RankProgress
from harness.sites.base.diagnosis import describe_progress, determine_outcome

LOG = Path("/nonexistent")
PROGRESS = [RankProgress(0, 10, "measured step", 17), RankProgress(1, 11, "measured step", 16)]


def exit_report(*failed, timed_out=False, **more):
    return ExitReport(timed_out=timed_out, timeout_s=8, failed=failed, **more)


def failure(rank, error="ValueError: no", role="rank", where=""):
    return RankFailure(role=role, rank=rank, host="h", error=error, at=rank, where=where)


def test_a_trial_without_a_failure_is_ok():
    assert determine_outcome(exit_report(), [], PROGRESS) == ("ok", None)


def test_a_sampler_that_failed_costs_no_trial():
    sampler = failure(0, "OSError: [Errno 28] No space left on device", role="sampler")
    assert determine_outcome(exit_report(), [sampler], PROGRESS) == ("ok", None)
    failed = FailedProcess("rank", 1, 1, LOG)
    assert determine_outcome(exit_report(failed), [sampler, failure(1)], PROGRESS)[1] == "rank 1: ValueError: no"


def test_a_killed_rank_is_the_cause_whatever_others_report():
    failed = (FailedProcess("rank", 0, 1, LOG), FailedProcess("rank", 1, -9, LOG))
    assert (
        determine_outcome(exit_report(*failed), [failure(0)], PROGRESS)[1]
        == "rank 1 was killed by SIGKILL in measured step 16"
    )
    assert determine_outcome(exit_report(*failed, out_of_memory=True), [], PROGRESS)[1].endswith(
        "(the kernel ran out of memory)"
    )


def test_a_dask_worker_runs_the_rank_of_its_number():
    reason = determine_outcome(exit_report(FailedProcess("worker", 1, -9, LOG)), [], PROGRESS)[1]
    assert reason == "worker 1 was killed by SIGKILL with rank 1 in measured step 16"


def test_a_rank_that_exited_first_is_the_cause_of_the_errors_that_others_report():
    failed = (FailedProcess("rank", 1, 3, LOG), FailedProcess("rank", 0, 1, LOG))
    reason = determine_outcome(exit_report(*failed), [failure(0, "RuntimeError: connection closed by peer")], PROGRESS)[
        1
    ]
    assert reason == "rank 1 exited with status 3 in measured step 16; see the last lines of its log"


def test_a_reported_error_is_the_cause_of_an_abort_elsewhere():
    failed = (FailedProcess("rank", 1, 1, LOG), FailedProcess("rank", 0, -6, LOG))
    assert determine_outcome(exit_report(*failed), [failure(1, where="in measured step 16")], PROGRESS) == (
        "failed",
        "rank 1: ValueError: no (in measured step 16)",
    )


def test_the_rank_that_mpirun_reports_as_lost_is_named(tmp_path):
    log = tmp_path / "log"
    log.write_text("prterun noticed that process rank 1 with PID 7 on node here exited on\nsignal 9 (Killed).\n")
    assert determine_outcome(exit_report(FailedProcess(MPIRUN, 0, 137, log)), [], PROGRESS)[1].startswith(
        "rank 1 was killed by SIGKILL in measured"
    )
    log.write_text("  Process name: [prterun-here-7@1,1]\n  Exit code:    3\n")
    assert determine_outcome(exit_report(FailedProcess(MPIRUN, 0, 3, log)), [], PROGRESS)[1].startswith(
        "rank 1 exited with status 3"
    )
    log.write_text("something else")
    assert determine_outcome(exit_report(FailedProcess(MPIRUN, 0, 1, log)), [], PROGRESS)[1].startswith(
        "mpirun 0 exited with status 1"
    )


def test_a_timeout_names_the_step_of_each_rank():
    outcome, reason = determine_outcome(exit_report(timed_out=True, stopped=("rank 1",)), [], PROGRESS)
    assert outcome == "timeout"
    assert reason == "not done within 8 s: rank 0 in measured step 17, rank 1 in measured step 16 (stopped)"
    assert describe_progress([]) == "no rank had started"
