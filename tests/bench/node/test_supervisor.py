"""A process group on real processes: what ends a trial, what is reported, and that nothing is left running."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from bench.core.case import Role
from bench.core.exit_report import TORCHRUN
from bench.host.logs import MAX_LOG_BYTES
from bench.host.ownership import FOLDER_VARIABLE
from bench.host.processes import pid_alive
from bench.node.external_ranks import ExternalRanks
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
from bench.node.guardian import find_forkserver, guardian_pid
from bench.node.supervisor import ProcessGroup
from bench.node.worker_process import WorkerProcess
from bench.rank.progress import Progress, read_progress
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

RANK = Role(name="rank", count=2)
SERVICE = Role(name="scheduler", count=1, service=True)
OBSERVER = Role(name="sampler", count=1, service=True, observer=True)

WELL = "open('{record}', 'w').close()"
"""A rank that ends well leaves a record."""
FOREVER = "import time; time.sleep(60)"
HUNG = "import faulthandler, signal, time; faulthandler.register(signal.SIGUSR1); print(1, flush=True); time.sleep(60)"
LONG_S = 30.0


@pytest.fixture(scope="module")
def context():
    with pytest.MonkeyPatch.context() as patch:
        # Else each new process imports pytest, as the file that this one was started with.
        patch.delattr(sys.modules["__main__"], "__file__", raising=False)
        patch.setattr(sys.modules["__main__"], "__spec__", None)
        yield start_forkserver((), always=())


@pytest.fixture
def group(tmp_path):
    made = ProcessGroup(tmp_path)
    yield made
    made.end()


@pytest.fixture
def start(context, group, tmp_path):
    """``start(role, number, program)``: add a process that runs a Python program to the group."""

    def add(role: Role, number: int, program: str, launcher: str | None = None) -> WorkerProcess:
        log, record = tmp_path / f"{role.name}-{number}.log", tmp_path / f"record-{number}.json"
        spec = ProcessSpec(log, command=(sys.executable, "-c", program.replace("{record}", str(record))))
        group.add(WorkerProcess(role, number, start_process(context, spec, "test"), log, launcher))
        return group.workers[-1]

    return add


def wait_for_log(worker: WorkerProcess) -> str:
    deadline = time.monotonic() + 10
    while not worker.log.exists() or not worker.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return worker.log.read_text()


class Request:
    """A control channel at which an end is requested already."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        os.write(write_end, b".")

    @property
    def descriptors(self) -> Sequence[int]:
        return (self.read_end,)

    def stop_requested(self) -> bool:
        return True


def test_a_trial_ends_with_its_ranks_and_its_services_end_with_it(group, start):
    service = start(SERVICE, 0, FOREVER)
    start(RANK, 0, WELL)
    start(RANK, 1, WELL)
    report = group.watch(LONG_S)
    assert report.succeeded
    assert (report.failed, report.stacks) == ((), {})
    pid = service.process.pid
    group.end()
    assert not pid_alive(pid)


def test_the_first_failure_is_reported_before_those_that_follow_from_it(group, start):
    start(RANK, 0, "import sys, time; time.sleep(0.3); sys.exit(1)")
    start(RANK, 1, "import sys; sys.exit(3)")
    report = group.watch(LONG_S)
    assert not report.succeeded
    assert [(process.title, process.status) for process in report.failed] == [("rank 1", 3), ("rank 0", 1)]
    assert not report.timed_out


def test_a_launcher_fails_under_its_own_name(group, start):
    start(RANK, 0, "import sys; sys.exit(2)", launcher=TORCHRUN)
    (failed,) = group.watch(LONG_S).failed
    assert (failed.role, failed.status) == (TORCHRUN, 2)


def test_a_service_that_ends_before_the_ranks_has_failed(group, start):
    start(RANK, 0, HUNG)
    start(SERVICE, 0, WELL)
    (failed,) = group.watch(LONG_S).failed
    assert (failed.title, failed.status) == ("scheduler 0", 0)


def test_a_trial_of_services_alone_ends_with_them(group, start):
    start(SERVICE, 0, WELL)
    assert group.watch(LONG_S).succeeded


def test_a_timeout_reports_the_stacks_of_what_still_runs(group, start):
    start(RANK, 0, WELL).process.join()
    wait_for_log(start(RANK, 1, HUNG))
    report = group.watch(0.2)
    assert (report.timed_out, report.timeout_s, report.failed, report.stopped) == (True, 0.2, (), ())
    (lines,) = report.stacks.values()
    assert list(report.stacks) == ["rank 1"]
    assert any("most recent call first" in line for line in lines)


def test_a_rank_that_ends_without_a_record_has_failed(group, start):
    start(RANK, 0, HUNG)
    start(RANK, 1, "pass")
    (failed,) = group.watch(LONG_S).failed
    assert (failed.title, failed.status) == ("rank 1", 0)


def test_a_stopped_rank_is_reported_with_its_stack_when_another_one_gives_up(group, start, tmp_path):
    progress = Progress(tmp_path, 1)
    progress.enter("measured step")
    stopped = start(RANK, 1, HUNG)
    wait_for_log(stopped)
    os.kill(stopped.process.pid, signal.SIGSTOP)
    start(RANK, 0, "import sys; sys.exit(1)")
    report = group.watch(LONG_S)
    progress.enter("leaving")
    assert [process.title for process in report.failed] == ["rank 0"]
    assert report.stopped == ("rank 1",)
    assert any("most recent call first" in line for line in report.stacks["rank 1"])
    assert not any("py-spy" in line for line in report.stacks["rank 1"])
    assert [rank.phase for rank in read_progress(tmp_path)] == ["measured step"], "it went on to give its stack"


def test_a_rank_that_was_stopped_and_continued_spoils_the_trial(group, start):
    rank = start(RANK, 0, HUNG)
    wait_for_log(rank)
    os.kill(rank.process.pid, signal.SIGSTOP)
    timer = threading.Timer(2.5, os.kill, (rank.process.pid, signal.SIGCONT))
    timer.start()
    report = group.watch(LONG_S)
    timer.join()
    (sentence,) = report.suspended
    assert re.fullmatch(r"rank 0 was stopped by a signal for [1-4] s", sentence)
    assert (report.succeeded, report.timed_out, report.failed) == (False, False, ())


def test_a_stopped_rank_that_is_killed_has_failed(group, start):
    rank = start(RANK, 0, HUNG)
    wait_for_log(rank)
    os.kill(rank.process.pid, signal.SIGSTOP)
    timer = threading.Timer(2.0, os.kill, (rank.process.pid, signal.SIGKILL))
    timer.start()
    report = group.watch(LONG_S)
    timer.join()
    assert [(process.title, process.status) for process in report.failed] == [("rank 0", -signal.SIGKILL)]
    assert report.suspended == ()


def test_a_rank_that_prints_without_end_leaves_a_short_log(group, start):
    rank = start(RANK, 0, "import sys\nfor _ in range(200): print('x' * 2**20)\nprint('end')\n" + WELL)
    report = group.watch(LONG_S)
    assert report.succeeded
    assert rank.log.stat().st_size <= MAX_LOG_BYTES
    assert report.dropped_log_bytes["rank 0"] > 150 * 2**20
    assert rank.log.read_text().endswith("end\n")


def test_an_observer_is_stopped_in_order_and_does_not_end_a_trial(group, start):
    observer = start(
        OBSERVER,
        0,
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('the end'), sys.exit(0)))\n"
        "print('begun', flush=True); time.sleep(60)",
    )
    wait_for_log(observer)
    start(RANK, 0, WELL)
    assert group.watch(LONG_S).succeeded
    assert observer.log.read_text() == "begun\nthe end\n"


def test_a_requested_end_is_no_failure_and_no_success(group, start):
    start(RANK, 0, FOREVER)
    report = group.watch(LONG_S, Request())
    assert (report.cancelled, report.succeeded, report.failed, report.timed_out) == (True, False, (), False)


def test_what_a_process_has_started_ends_with_it(group, start):
    parent = start(
        RANK,
        0,
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}], process_group=0)\n"
        "print(child.pid, flush=True); child.wait()",
    )
    child = int(wait_for_log(parent))
    assert pid_alive(child)
    group.end()
    group.end()
    assert not pid_alive(child)


AWAY = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
"""A rank that starts a process in a session of its own."""


def test_what_has_left_the_session_of_a_rank_ends_with_the_trial_which_says_so(group, start):
    rank = start(RANK, 0, AWAY + WELL)
    report = group.watch(LONG_S)
    away = int(wait_for_log(rank))
    assert (report.succeeded, report.left_running) == (True, (f"sleep (process {away})",))
    group.end()
    assert not pid_alive(away)


def test_what_a_rank_still_uses_is_no_leftover(group, start):
    rank = start(RANK, 0, AWAY + HUNG)
    away = int(wait_for_log(rank).split()[0])
    assert group.watch(0.1).left_running == ()
    group.end()
    assert not pid_alive(away)


def test_it_ends_where_the_forkserver_and_its_guardian_were_killed(group, start):
    rank = start(RANK, 0, AWAY + FOREVER)
    away = int(wait_for_log(rank))
    os.kill(guardian_pid(), signal.SIGKILL)
    (failed,) = group.watch(LONG_S).failed
    assert (failed.title, failed.status) == ("forkserver", -signal.SIGKILL)
    group.end()
    assert not pid_alive(away)


def test_other_children_of_this_process_are_left_alone(start, tmp_path):
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        group = ProcessGroup(tmp_path)
        assert group.watch(LONG_S).left_running == ()
        group.end()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_forkserver_that_is_killed_is_the_cause_and_not_its_ranks(group, start):
    wait_for_log(start(RANK, 0, HUNG))
    wait_for_log(start(RANK, 1, HUNG))
    os.kill(find_forkserver().pid, signal.SIGKILL)
    report = group.watch(LONG_S)
    assert [(failed.title, failed.status) for failed in report.failed] == [("forkserver", -signal.SIGKILL)]


def test_a_stopped_forkserver_is_named(group, start):
    wait_for_log(start(RANK, 0, HUNG))
    os.kill(find_forkserver().pid, signal.SIGSTOP)
    time.sleep(1.1)
    report = group.watch(0.2)
    assert (report.stopped, report.timed_out) == (("forkserver",), True)
    assert list(report.stacks) == ["rank 0"], "a signal that asks for a stack would end it"


def test_a_stopped_launcher_is_named(group, start, tmp_path):
    launcher = start(RANK, 0, HUNG, launcher=TORCHRUN)
    wait_for_log(launcher)
    os.kill(launcher.process.pid, signal.SIGSTOP)
    time.sleep(1.1)
    report = group.watch(0.2)
    assert (report.timed_out, report.stopped) == (True, (TORCHRUN,))


LAUNCHED = """
import os, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from bench.rank.progress import Progress
if os.fork() == 0:
    Progress(Path({folder!r}), 1).enter("measured step")
    os._exit(0)
os.wait()
print("waits", flush=True)
time.sleep(60)
"""


def test_a_rank_that_leaves_its_launcher_with_status_0_is_lost(group, start, tmp_path):
    """torchrun takes it for done, and mpirun waits for whatever holds its output open."""
    start(RANK, 0, LAUNCHED.format(root=str(ROOT), folder=str(tmp_path)), launcher=TORCHRUN)
    began = time.monotonic()
    report = group.watch(LONG_S)
    assert [(failed.title, failed.status) for failed in report.failed] == [("rank 1", None)]
    assert time.monotonic() - began < LONG_S / 2


def test_a_rank_that_leaves_with_status_0_is_among_those_that_failed(group, start):
    """Others that lose it end within the same moment."""
    start(RANK, 0, "import sys; sys.exit(1)").process.join()
    start(RANK, 1, "pass").process.join()
    report = group.watch(LONG_S)
    assert {(failed.title, failed.status) for failed in report.failed} == {("rank 0", 1), ("rank 1", 0)}


@pytest.mark.parametrize(
    ("program", "sent", "said"),
    [
        (FOREVER, signal.SIGKILL, "it was killed by SIGKILL before the ranks ended"),
        (FOREVER, signal.SIGSTOP, "it was stopped by a signal"),
        ("pass", None, "it exited with status 0 before the ranks ended"),
        (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER,
            None,
            "it did not end when it was asked to",
        ),
    ],
)
def test_an_observer_that_does_not_observe_to_the_end_is_told(group, start, program, sent, said):
    observer = start(OBSERVER, 0, f"print(1, flush=True); {program}")
    wait_for_log(observer)
    if sent is not None:
        os.kill(observer.process.pid, sent)
    start(RANK, 0, "import time; time.sleep(0.3)\n" + WELL)
    report = group.watch(LONG_S)
    assert (report.succeeded, dict(report.lost_observers)) == (True, {0: said})


def test_an_unrelated_process_is_not_ended_in_place_of_an_external_rank(tmp_path):
    """The process number in a rank's note may be another process's by the time it is read."""
    unrelated = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "progress-0").write_bytes(struct.pack("5q", unrelated.pid, 0, 0, 0, 0))
        external = ExternalRanks(tmp_path, [0])
        assert [progress.pid for progress in external.progress()] == [unrelated.pid]
        external.end()
        assert unrelated.poll() is None
    finally:
        unrelated.kill()
        unrelated.wait()


def test_what_an_external_rank_has_started_ends_with_its_trial(tmp_path):
    """It has left the rank, which has ended; only what it inherited tells whose it is."""
    folder = tmp_path / "trial"
    folder.mkdir()
    left = subprocess.Popen(["sleep", "60"], env={FOLDER_VARIABLE: str(folder)}, start_new_session=True)
    other = subprocess.Popen(["sleep", "60"], env={FOLDER_VARIABLE: str(tmp_path)}, start_new_session=True)
    try:
        ExternalRanks(folder, [0]).end()
        assert left.wait(10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()
