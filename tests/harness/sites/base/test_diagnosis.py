"""The diagnosis of a trial, from what its processes left."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.records import RankFailure
from bench.rank.progress import RankProgress
from harness.sites.base.diagnosis import diagnose
from harness.sites.base.first_cause import describe_progress, determine_outcome

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
    assert reason == "rank 1 exited with status 3 in measured step 16; its log is empty"


def test_a_reported_error_is_the_cause_of_an_abort_elsewhere():
    failed = (FailedProcess("rank", 1, 1, LOG), FailedProcess("rank", 0, -6, LOG))
    assert determine_outcome(exit_report(*failed), [failure(1, where="in measured step 16")], PROGRESS) == (
        "failed",
        "rank 1: ValueError: no (in measured step 16)",
    )


CLOSED = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:24450"


def test_an_error_that_tells_of_another_rank_s_end_is_not_the_cause():
    """Of a rank that closed its descriptors: the other one notices first."""
    failed = (FailedProcess("rank", 0, 1, LOG), FailedProcess("rank", 1, -6, LOG))
    reason = determine_outcome(exit_report(*failed), [failure(0, CLOSED)], PROGRESS)[1]
    assert reason == "rank 1 was killed by SIGABRT in measured step 16; its log is empty"
    earlier = failure(0, CLOSED)
    later = failure(1, "OSError: Bad file descriptor", where="in measured step 16")
    failed = (FailedProcess("rank", 0, 1, LOG), FailedProcess("rank", 1, 1, LOG))
    reason = determine_outcome(exit_report(*failed), [earlier, later], PROGRESS)[1]
    assert reason == "rank 1: OSError: Bad file descriptor (in measured step 16)"
    alone = determine_outcome(exit_report(failed[0]), [earlier], PROGRESS)[1]
    assert alone == f"rank 0: {CLOSED}"


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


HOROVOD = "horovod.common.exceptions.HorovodInternalError: Horovod has been shut down"


def waiting(rank, since_s, last_step_s=0.01, step=17):
    return RankProgress(rank, 10 + rank, "measured step", step, since_s, last_step_s)


def test_a_stopped_rank_is_the_cause_of_the_errors_of_those_that_wait_for_it():
    """Horovod's rank 0 gives up after half a minute."""
    report = exit_report(FailedProcess("rank", 0, 1, LOG), stopped=("rank 1",), stacks={"rank 1": ["in step"]})
    outcome, reason = determine_outcome(report, [failure(0, HOROVOD, where="in measured step 17")], PROGRESS)
    assert outcome == "failed"
    assert reason == (
        f"rank 1 was stopped by a signal in measured step 16; then rank 0: {HOROVOD} (in measured step 17)"
    )


def test_a_rank_that_stays_stopped_is_named_before_anything_fails():
    report = exit_report(stopped=("worker 1",))
    reason = "worker 1 was stopped by a signal with rank 1 in measured step 16"
    assert determine_outcome(report, [], PROGRESS) == ("failed", reason)
    assert not report.succeeded


def test_a_rank_that_hangs_is_the_cause_of_the_error_of_one_that_gave_up():
    report = exit_report(FailedProcess("rank", 0, 1, LOG), stacks={"rank 1": ["in step"]})
    gave_up = failure(0, HOROVOD, where="in measured step 17").model_copy(update={"at": 1030.0})
    progress = [waiting(0, 1000.0), waiting(1, 1000.0)]
    assert determine_outcome(report, [gave_up], progress)[1] == (
        f"rank 1 in measured step 17 did not go on for 30 s; then rank 0: {HOROVOD} (in measured step 17)"
    )


@pytest.mark.parametrize(
    ("progress", "stacks"),
    [
        pytest.param([waiting(0, 1028.0), waiting(1, 1028.0)], ["rank 1"], id="it failed soon"),
        pytest.param([waiting(0, 1000.0, 20.0), waiting(1, 1000.0, 20.0)], ["rank 1"], id="steps take long"),
        pytest.param([waiting(0, 1010.0, 0.0), waiting(1, 1010.0, 0.0)], ["rank 1"], id="how long is unknown"),
        pytest.param([waiting(0, 1000.0), waiting(1, 1000.0, step=18)], ["rank 1"], id="the other is ahead"),
        pytest.param([waiting(0, 1000.0), waiting(1, 1000.0)], [], id="no other runs"),
    ],
)
def test_an_error_that_tells_of_no_wait_is_the_cause(progress, stacks):
    report = exit_report(FailedProcess("rank", 0, 1, LOG), stacks={title: ["in step"] for title in stacks})
    error = failure(0, where="in measured step 17").model_copy(update={"at": 1030.0})
    assert determine_outcome(report, [error], progress)[1] == "rank 0: ValueError: no (in measured step 17)"


def test_a_rank_that_ends_too_early_is_the_cause_of_what_others_report():
    failed = (FailedProcess("rank", 1, 0, LOG), FailedProcess("rank", 0, 1, LOG))
    reason = determine_outcome(exit_report(*failed), [failure(0, "RuntimeError: closed by peer")], PROGRESS)[1]
    assert reason == "rank 1 exited with status 0, without a record, in measured step 16; its log is empty"


def test_a_suspended_trial_is_invalid_whatever_failed_because_of_it():
    report = exit_report(FailedProcess("rank", 0, 1, LOG), suspended=("rank 1 was stopped by a signal for 7 s",))
    assert determine_outcome(report, [failure(0)], PROGRESS) == (
        "invalid",
        "suspended: rank 1 was stopped by a signal for 7 s",
    )


def test_stacks_of_stopped_processes_come_first(tmp_path):
    (tmp_path / "rank-0.log").write_text("the end\n")
    failed = FailedProcess("rank", 0, 1, tmp_path / "rank-0.log")
    stacks = {"rank 2": ["waits"], "rank 1": ["stopped here"]}
    result = diagnose(tmp_path, exit_report(failed, stopped=("rank 1",), stacks=stacks))
    assert result.log_tail == ("rank 1: stopped here", "rank 0: the end", "rank 2: waits")


def test_texts_that_a_rank_wrote_can_be_printed_and_stored(tmp_path):
    spoilt = failure(0, "ValueError: \x00\x1b[2J" + "x" * 10**6)
    (tmp_path / "failure-rank-0.json").write_text(spoilt.model_dump_json())
    result = diagnose(tmp_path, exit_report())
    assert result.reason.isprintable()
    assert len(result.reason) < 3000


def test_a_timeout_names_the_step_of_each_rank():
    outcome, reason = determine_outcome(exit_report(timed_out=True, stopped=("rank 1",)), [], PROGRESS)
    assert outcome == "timeout"
    assert reason == "not done within 8 s: rank 1 in measured step 16 (stopped), rank 0 in measured step 17"
    assert describe_progress([]) == "no rank had started"
