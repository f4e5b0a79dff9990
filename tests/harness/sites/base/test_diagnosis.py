"""The diagnosis of a trial, from what its processes left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.exit_report import MPIRUN, ExitReport, FailedProcess
from bench.core.flight_record import FlightEntry, FlightRecord
from bench.core.frozen_model import write_model
from bench.core.records import RankFailure
from bench.rank.progress import Progress, RankProgress
from harness.sites.base.diagnosis import diagnose
from harness.sites.base.first_cause import describe_progress, determine_outcome
from tests.support.builders import make_record
from tests.support.nccl_logs import info, warn

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
    failed = (FailedProcess("rank", 1, 1, LOG, 1.1), FailedProcess("rank", 0, -6, LOG, 2.0))
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


def flight_record(rank, *operations):
    """Collectives numbered from 1, of which the last one is not done where its name ends with an ellipsis."""
    entries = [
        FlightEntry(group="default_pg", operation=name.rstrip("…"), sequence=number + 1, done=not name.endswith("…"))
        for number, name in enumerate(operations)
    ]
    return FlightRecord(rank=rank, entries=tuple(entries))


def test_the_collective_of_a_hang_is_in_the_reason(tmp_path):
    for record in (flight_record(0, "broadcast", "all_reduce…"), flight_record(1, "broadcast")):
        write_model(tmp_path, f"flight-{record.rank}.json", record)
    (tmp_path / "flight-2.json").write_text("{")
    for rank in range(4):
        Progress(tmp_path, rank)
    said = (
        "; rank 0 waits in all_reduce (collective 2), which rank 1 has not begun: its last one was broadcast "
        "(collective 1)"
    )
    result = diagnose(tmp_path, exit_report(timed_out=True))
    assert result.reason.endswith(f"{said}; of ranks 2, 3 the collectives are unknown")
    # One that has failed is not waited for any longer.
    failed = [FailedProcess("rank", rank, 1, LOG) for rank in (2, 3)]
    result = diagnose(tmp_path, exit_report(*failed))
    assert result.outcome == "failed"
    assert result.reason.endswith(said)
    assert diagnose(tmp_path, exit_report()).reason is None


def test_what_ranks_measure_after_a_stopped_one_went_on_for_its_stacks_is_no_result(tmp_path):
    for rank, phase in enumerate(("measured step", "further measurements")):
        Progress(tmp_path, rank).enter(phase, 3)
        write_model(tmp_path, f"record-{rank}.json", make_record(rank, 2))
    report = exit_report(timed_out=True, stopped=("rank 0",))
    assert [record.rank for record in diagnose(tmp_path, report).ranks] == [1]
    assert [record.rank for record in diagnose(tmp_path, exit_report(timed_out=True)).ranks] == [0, 1]


def test_a_warning_of_nccl_is_in_the_reason_and_its_log_in_the_tail(tmp_path):
    (tmp_path / "nccl-0.log").write_text(warn("Call to connect failed : Connection refused") + "\n")
    (tmp_path / "nccl-1.log").write_text(f"{info('Using network Socket')}\n{warn('Duplicate GPU detected')}\n")
    (tmp_path / "nccl-x.log").write_text(warn("no rank's"))
    write_model(tmp_path, "failure-rank-1.json", failure(1, "DistBackendError: NCCL error: invalid usage"))
    failed = FailedProcess("rank", 1, 1, LOG)
    result = diagnose(tmp_path, exit_report(failed))
    assert result.reason == (
        "rank 1: DistBackendError: NCCL error: invalid usage; NCCL warned on rank 1: Duplicate GPU detected"
    )
    assert [line.split("] ")[0] for line in result.log_tail if "INFO" in line] == [
        "NCCL of rank 1: gpu-node-7:4100:4190 [0"
    ]
    assert any(line.startswith("NCCL of rank 0: ") and "Connection refused" in line for line in result.log_tail)
    # Of a collective's error that says it already it is not said twice.
    write_model(tmp_path, "failure-rank-1.json", failure(1, "DistBackendError: Last error: Duplicate GPU detected"))
    assert diagnose(tmp_path, exit_report(failed)).reason.count("Duplicate GPU") == 1
    (tmp_path / "failure-rank-1.json").unlink()
    assert diagnose(tmp_path, exit_report()).log_tail == ()


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


def at(failed, moment):
    return replace(failed, at=moment)


SCHEDULER = FailedProcess("scheduler", 0, -15, LOG, 100.0)


def test_two_at_once_the_earlier_is_the_cause():
    killed, error = FailedProcess("rank", 1, -9, LOG), failure(0, where="in measured step 17")
    raised = FailedProcess("rank", 0, 1, LOG, 100.0)
    earlier = error.model_copy(update={"at": 100.0})
    reports = exit_report(raised, at(killed, 103.0))
    assert determine_outcome(reports, [earlier], PROGRESS)[1] == "rank 0: ValueError: no (in measured step 17)"
    reports = exit_report(at(killed, 97.0), raised)
    assert determine_outcome(reports, [earlier], PROGRESS)[1] == "rank 1 was killed by SIGKILL in measured step 16"


@pytest.mark.parametrize("error", [HOROVOD, CLOSED, "distributed.comm.core.CommClosedError: in <TCP>"])
def test_a_service_that_ends_is_the_cause_of_the_errors_of_its_ranks(error):
    driver = FailedProcess("driver", 0, 1, LOG, 100.5)
    late = [failure(rank, error).model_copy(update={"at": 100.2}) for rank in (0, 1)]
    reason = determine_outcome(exit_report(SCHEDULER, driver), late, PROGRESS)[1]
    assert reason == "scheduler 0 was killed by SIGTERM; its log is empty"


def test_a_driver_that_fails_because_of_a_rank_is_not_the_cause():
    driver = FailedProcess("driver", 0, 1, LOG, 100.0)
    late = failure(1, where="in measured step 16").model_copy(update={"at": 100.2})
    assert determine_outcome(exit_report(driver), [late], PROGRESS)[1] == (
        "rank 1: ValueError: no (in measured step 16)"
    )
    assert determine_outcome(exit_report(driver), [], PROGRESS)[1] == "driver 0 exited with status 1; its log is empty"


@pytest.mark.parametrize("title", ["mpirun", "torchrun", "forkserver", "scheduler 0", "driver 0"])
def test_a_process_without_a_rank_that_is_stopped_is_named_first(title):
    late = failure(0, HOROVOD).model_copy(update={"at": 100.0})
    report = exit_report(FailedProcess("rank", 0, 1, LOG, 100.1), stopped=(title,), stopped_at={title: 80.0})
    assert determine_outcome(report, [late], PROGRESS)[1].startswith(f"{title} was stopped by a signal; then rank 0: ")
    outcome, reason = determine_outcome(exit_report(timed_out=True, stopped=(title,)), [], PROGRESS)
    assert outcome == "timeout"
    assert reason.startswith(f"not done within 8 s: {title} was stopped by a signal; rank 0 in measured step 17")


def test_a_process_that_was_stopped_after_the_cause_is_not_named_before_it():
    killed = FailedProcess("rank", 1, -9, LOG, 100.0)
    report = exit_report(killed, stopped=("rank 0",), stopped_at={"rank 0": 103.0})
    assert determine_outcome(report, [], PROGRESS)[1] == "rank 1 was killed by SIGKILL in measured step 16"


@pytest.mark.parametrize(
    ("status", "more", "hint"),
    [
        (-7, {}, "/dev/shm or the disk is full"),
        (-24, {}, "ulimit -t"),
        (-25, {}, "ulimit -f"),
        (-9, {"cpu_limit_s": 5}, "its limit of CPU time is 5 s: ulimit -t"),
        (-9, {"out_of_memory": True}, "the kernel ran out of memory"),
        (
            -9,
            {"out_of_memory": True, "memory_limit": "the memory limit of its control group, 2 GiB", "cpu_limit_s": 5},
            "the memory limit of its control group, 2 GiB",
        ),
        (-63, {}, "was killed by signal 63"),
    ],
)
def test_a_limit_that_ended_a_rank_is_named(status, more, hint):
    report = exit_report(FailedProcess("rank", 1, status, LOG, 100.0), **more)
    lost = failure(0, CLOSED).model_copy(update={"at": 99.9})
    outcome, reason = determine_outcome(report, [lost], PROGRESS)
    assert (outcome, reason.startswith("rank 1 was killed by")) == ("failed", True)
    assert hint in reason


def test_the_rank_that_left_mpirun_with_status_0_is_named_and_not_those_that_mpirun_ends(tmp_path):
    log = tmp_path / "log"
    log.write_text("prterun has exited due to process rank 1 with PID 7 on node here exiting\nimproperly. There are\n")
    expected = "rank 1 exited with status 0, without a record, in measured step 16; see the last lines of its log"
    assert determine_outcome(exit_report(FailedProcess(MPIRUN, 0, 1, log)), [], PROGRESS)[1] == expected
    gone = [FailedProcess("rank", rank, None, log, 100.0) for rank in (0, 1)]
    mpirun = FailedProcess(MPIRUN, 0, 1, log, 100.1)
    assert determine_outcome(exit_report(*gone, mpirun), [], PROGRESS)[1] == expected


def test_a_rank_that_a_launcher_ended_after_an_error_is_not_the_cause():
    gone = FailedProcess("rank", 0, None, LOG, 100.6)
    error = failure(1, "SystemExit: 0", where="in measured step 16").model_copy(update={"at": 100.2})
    assert determine_outcome(exit_report(gone), [error], PROGRESS)[1] == "rank 1: SystemExit: 0 (in measured step 16)"


def test_what_became_of_the_sampler_and_of_leftovers_is_kept(tmp_path):
    report = exit_report(
        lost_observers={2: "it was killed by SIGKILL"}, left_running=tuple(f"sleep {n}" for n in "1234")
    )
    result = diagnose(tmp_path, report)
    assert result.outcome == "ok"
    (lost,) = result.failures
    assert (lost.role, lost.rank, lost.error) == ("sampler", 2, "it was killed by SIGKILL")
    (left,) = result.conditions
    assert (left.name, left.seen) == ("left_running", "sleep 1, sleep 2, sleep 3 and 1 more")


def stack(*frames):
    lines = [f'  File "{file}", line {line} in {name}' for file, line, name in frames]
    return ["Current thread 0x01 (most recent call first):", *lines]


def test_a_timeout_of_a_program_names_where_each_rank_is_in_it():
    ours = (("/s/bench/rank/program/script.py", 34, "run_script"), ("/s/bench/rank/worker.py", 9, "main"))
    program = "/out/.program-0/my.models/train.py"
    stacks = {
        "rank 0": [
            *stack(("/lib/threading.py", 3, "wait"), (program, 99, "collate")),
            "",
            *stack(
                ("/lib/torch/c10d.py", 3252, "all_reduce"),
                ("/lib/torch/log.py", 8, "wrapper"),
                (program, 11, "step"),
                *ours,
            ),
        ],
        "rank 1": stack((program, 10, "<module>"), *ours),
    }
    outcome, reason = determine_outcome(exit_report(timed_out=True, stacks=stacks), [], PROGRESS)
    assert outcome == "timeout"
    assert reason == (
        "not done within 8 s: rank 0 in measured step 17 (at my.models/train.py:11, in all_reduce), "
        "rank 1 in measured step 16 (at my.models/train.py:10)"
    )


def test_the_stack_of_no_program_names_no_place():
    stacks = {"rank 0": stack(("/s/bench/rank/loop.py", 3, "measure")), "rank 1": ["no stack: it did not answer"]}
    _, reason = determine_outcome(exit_report(timed_out=True, stacks=stacks), [], PROGRESS)
    assert reason == "not done within 8 s: rank 0 in measured step 17, rank 1 in measured step 16"
