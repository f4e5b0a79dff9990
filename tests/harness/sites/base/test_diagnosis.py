"""How a trial ended, from what its processes left."""

from __future__ import annotations

from pathlib import Path

from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.records import RankFailure
from bench.rank.progress import RankProgress
from harness.sites.base.diagnosis import describe_progress, determine_outcome

LOG = Path("/nonexistent")
SEEN = [RankProgress(0, 10, "measured step", 17), RankProgress(1, 11, "measured step", 16)]


def scene(*failed, timed_out=False, **more):
    return ExitReport(timed_out=timed_out, timeout_s=8, failed=failed, **more)


def failure(rank, error="ValueError: no", role="rank", where=""):
    return RankFailure(role=role, rank=rank, host="h", error=error, at=rank, where=where)


def test_well_is_well():
    assert determine_outcome(scene(), [], SEEN) == ("ok", None)


def test_a_killed_rank_is_the_cause_whatever_the_others_say():
    failed = (FailedProcess("rank", 0, 1, LOG), FailedProcess("rank", 1, -9, LOG))
    assert (
        determine_outcome(scene(*failed), [failure(0)], SEEN)[1] == "rank 1 was killed by SIGKILL in measured step 16"
    )
    assert determine_outcome(scene(*failed, out_of_memory=True), [], SEEN)[1].endswith("(the kernel ran out of memory)")


def test_a_dask_worker_holds_the_rank_of_its_number():
    said = determine_outcome(scene(FailedProcess("worker", 1, -9, LOG)), [], SEEN)[1]
    assert said == "worker 1 was killed by SIGKILL with rank 1 in measured step 16"


def test_who_left_without_a_word_is_named_before_those_who_complain_of_it():
    failed = (FailedProcess("rank", 1, 3, LOG), FailedProcess("rank", 0, 1, LOG))
    said = determine_outcome(scene(*failed), [failure(0, "RuntimeError: connection closed by peer")], SEEN)[1]
    assert said == "rank 1 exited with status 3 in measured step 16; see the last lines of its log"


def test_who_said_why_is_quoted_even_if_another_was_aborted_by_it():
    failed = (FailedProcess("rank", 1, 1, LOG), FailedProcess("rank", 0, -6, LOG))
    assert determine_outcome(scene(*failed), [failure(1, where="in measured step 16")], SEEN) == (
        "failed",
        "rank 1: ValueError: no (in measured step 16)",
    )


def test_the_rank_that_mpirun_lost(tmp_path):
    log = tmp_path / "log"
    log.write_text("prterun noticed that process rank 1 with PID 7 on node here exited on\nsignal 9 (Killed).\n")
    assert determine_outcome(scene(FailedProcess(MPIRUN, 0, 137, log)), [], SEEN)[1].startswith(
        "rank 1 was killed by SIGKILL in measured"
    )
    log.write_text("  Process name: [prterun-here-7@1,1]\n  Exit code:    3\n")
    assert determine_outcome(scene(FailedProcess(MPIRUN, 0, 3, log)), [], SEEN)[1].startswith(
        "rank 1 exited with status 3"
    )
    log.write_text("something else")
    assert determine_outcome(scene(FailedProcess(MPIRUN, 0, 1, log)), [], SEEN)[1].startswith(
        "mpirun 0 exited with status 1"
    )


def test_a_timeout_says_where_everybody_was():
    outcome, said = determine_outcome(scene(timed_out=True, stopped=("rank 1",)), [], SEEN)
    assert outcome == "timeout"
    assert said == "not done within 8 s: rank 0 in measured step 17, rank 1 in measured step 16 (stopped)"
    assert describe_progress([]) == "no rank had started"
