"""How a trial ended, from what its processes left."""

from __future__ import annotations

from pathlib import Path

from bench.progress import Whereabouts
from bench.records import RankFailure
from bench.scene import MPIRUN, Gone, Scene
from harness.aftermath import judge, where_all_were

LOG = Path("/nonexistent")
SEEN = [Whereabouts(0, 10, "measured step", 17), Whereabouts(1, 11, "measured step", 16)]


def scene(*gone, timed_out=False, **more):
    return Scene(timed_out=timed_out, timeout_s=8, gone=gone, **more)


def failure(rank, error="ValueError: no", role="rank", where=""):
    return RankFailure(role=role, rank=rank, host="h", error=error, at=rank, where=where)


def test_well_is_well():
    assert judge(scene(), [], SEEN) == ("ok", None)


def test_a_killed_rank_is_the_cause_whatever_the_others_say():
    gone = (Gone("rank", 0, 1, LOG), Gone("rank", 1, -9, LOG))
    assert judge(scene(*gone), [failure(0)], SEEN)[1] == "rank 1 was killed by SIGKILL in measured step 16"
    assert judge(scene(*gone, out_of_memory=True), [], SEEN)[1].endswith("(the kernel ran out of memory)")


def test_a_dask_worker_holds_the_rank_of_its_number():
    said = judge(scene(Gone("worker", 1, -9, LOG)), [], SEEN)[1]
    assert said == "worker 1 was killed by SIGKILL with rank 1 in measured step 16"


def test_who_left_without_a_word_is_named_before_those_who_complain_of_it():
    gone = (Gone("rank", 1, 3, LOG), Gone("rank", 0, 1, LOG))
    said = judge(scene(*gone), [failure(0, "RuntimeError: connection closed by peer")], SEEN)[1]
    assert said == "rank 1 ended with status 3 and no word in measured step 16; see the log's last lines"


def test_who_said_why_is_quoted_even_if_another_was_aborted_by_it():
    gone = (Gone("rank", 1, 1, LOG), Gone("rank", 0, -6, LOG))
    assert judge(scene(*gone), [failure(1, where="in measured step 16")], SEEN) == (
        "failed", "rank 1: ValueError: no (in measured step 16)",
    )  # fmt: skip


def test_the_rank_that_mpirun_lost(tmp_path):
    log = tmp_path / "log"
    log.write_text("prterun noticed that process rank 1 with PID 7 on node here exited on\nsignal 9 (Killed).\n")
    assert judge(scene(Gone(MPIRUN, 0, 137, log)), [], SEEN)[1].startswith("rank 1 was killed by SIGKILL in measured")
    log.write_text("  Process name: [prterun-here-7@1,1]\n  Exit code:    3\n")
    assert judge(scene(Gone(MPIRUN, 0, 3, log)), [], SEEN)[1].startswith("rank 1 ended with status 3")
    log.write_text("something else")
    assert judge(scene(Gone(MPIRUN, 0, 1, log)), [], SEEN)[1].startswith("mpirun 0 ended with status 1")


def test_a_timeout_says_where_everybody_was():
    outcome, said = judge(scene(timed_out=True, stopped=("rank 1",)), [], SEEN)
    assert outcome == "timeout"
    assert said == "not done within 8 s: rank 0 in measured step 17, rank 1 in measured step 16 (stopped)"
    assert where_all_were([]) == "no rank had begun"
