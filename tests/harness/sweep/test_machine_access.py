"""The cores of this machine: trials of two sweeps never overlap, waiting is nobody's time, and sharing is flagged."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from bench.backends.ddp import BACKEND
from bench.host.lock_folder import Command, LockHolder
from bench.host.machine_lock import MachineLock
from harness.sweep.machine_access import SHARED_MACHINE, MachineAccess, describe_wait, open_machine_access
from harness.sweep.progress import TrialProgress
from harness.sweep.runner import Round, run_round
from reports.analysis.flags import FLAG_MEANINGS
from reports.analysis.trust import LIMITED_TRUST, LOW_TRUST
from tests.support.builders import make_case
from tests.support.machine_lock import SiteHere, process_with_lock

WAIT_S = 60.0


class Silent:
    def begins(self, case, round_number):
        pass

    def ends(self, trial):
        pass


class Waits:
    """Remembers what it was told."""

    def __init__(self):
        self.texts, self.waited_s, self.began = [], [], threading.Event()

    def waits(self, text, *, again):
        self.texts.append((text, again))
        self.began.set()

    def waited(self, time_s):
        self.waited_s.append(time_s)


def access_of(folder: Path, purpose: str, *, shared=False) -> MachineAccess:
    return MachineAccess(MachineLock(purpose, (), shared=shared, folder=folder))


def run_trials(folder: Path, access: MachineAccess, seen: list, count: int):
    """The trials of a round of a sweep in a folder of its own."""
    cases = [make_case(ranks=1, ranks_per_node=1, batch=size) for size in range(1, count + 1)]
    with access:
        return list(run_round(cases, Round(0, SiteHere(seen), {"ddp": BACKEND}, folder, "e", access), Silent()))


def test_trials_of_two_sweeps_never_overlap(tmp_path):
    seen: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=run_trials, args=(tmp_path / name, access_of(tmp_path / "lock", name), seen, 4))
        for name in ("first", "second")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(seen) == 16
    for (began, one), (ended, same) in zip(seen[::2], seen[1::2], strict=True):
        assert (began, ended, one) == ("begins", "ends", same)


def test_waiting_is_shown_and_counted_apart(tmp_path):
    waits = Waits()
    ours, theirs = access_of(tmp_path, "sweep a"), access_of(tmp_path, "sweep b")
    theirs.watcher = waits
    with ours, theirs:
        ours.acquire()
        thread = threading.Thread(target=theirs.acquire)
        thread.start()
        assert waits.began.wait(WAIT_S)
        ours.release()
        thread.join(WAIT_S)
        assert ours.waited_s == 0
        assert [theirs.waited_s] == waits.waited_s
        theirs.release()
    text, again = waits.texts[0]
    assert "for sweep a (PID " in text
    assert not again


def test_a_lock_that_is_held_already_is_released_by_the_outer_context(tmp_path):
    ours, other = access_of(tmp_path, "a"), MachineLock("b", (), folder=tmp_path)

    def refuse(holder, more):
        raise KeyboardInterrupt

    def others_may() -> bool:
        try:
            other.acquire(refuse).release()
        except KeyboardInterrupt:
            return False
        return True

    with ours, other:
        ours.acquire()
        with ours.held():
            with ours.held():
                assert not others_may()
            assert not others_may()
        assert others_may()


def test_an_error_in_a_trial_releases_the_lock(tmp_path):
    ours = access_of(tmp_path, "a")
    try:
        with ours, ours.held():
            raise ValueError
    except ValueError:
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_shares_waits_for_nobody_and_both_are_flagged(tmp_path):
    waits = Waits()

    def opened(purpose: str, *, shared: bool) -> MachineAccess:
        access = access_of(tmp_path, purpose, shared=shared)
        access.watcher = waits
        return access

    with opened("sweep b", shared=False) as exclusive, exclusive.held() as theirs:
        assert theirs.conditions() == ()
        with opened("sweep a", shared=True) as shared, shared.held() as ours:
            (seen,) = ours.conditions()
            assert seen.name == SHARED_MACHINE
            assert seen.seen.startswith("sweep b (PID ")
    with opened("sweep a", shared=True), opened("sweep b", shared=False) as exclusive, exclusive.held() as theirs:
        (seen,) = theirs.conditions()
        assert seen.seen.startswith("sweep a (PID ")
    with opened("sweep a", shared=True) as shared, shared.held() as ours:
        assert ours.conditions() == (), "nobody else was there"
    assert waits.texts == []
    assert SHARED_MACHINE in FLAG_MEANINGS
    assert SHARED_MACHINE in {**LOW_TRUST, **LIMITED_TRUST}


@pytest.mark.parametrize(("long_shares", "short_shares"), [(False, True), (True, False), (True, True)])
def test_a_sweep_within_one_trial_of_another_is_flagged_in_that_trial_only(tmp_path, long_shares, short_shares):
    with (
        access_of(tmp_path, "another", shared=False),  # who waits has no need to know
        access_of(tmp_path, "long", shared=long_shares) as long,
    ):
        flags = []
        for short_runs in (False, True, False):
            with long.held() as beside:
                if short_runs:
                    with access_of(tmp_path, "short", shared=short_shares):
                        pass
                flags.append([one.seen.partition(" ")[0] for one in beside.conditions() if "another" not in one.seen])
    assert flags == [[], ["short"], []]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sweep_that_shares_and_is_killed_is_flagged(tmp_path):
    with access_of(tmp_path, "long") as long, long.held() as beside:
        with process_with_lock(tmp_path, shared=True) as process:
            pid = process.pid
        (seen,) = beside.conditions()
    assert seen.seen.startswith("sweep of somebody (ended, user ")
    assert str(pid) not in seen.seen, "another process may have that number"
    assert list(tmp_path.iterdir()) == []


def test_sweeps_that_wait_for_each_other_are_not_flagged(tmp_path):
    with access_of(tmp_path, "a") as first, access_of(tmp_path, "b"), first.held() as beside:
        with access_of(tmp_path, "c"):
            pass
        assert beside.conditions() == ()


def test_the_condition_is_one_of_the_trial(tmp_path):
    with MachineLock("sweep a", (), shared=True, folder=tmp_path / "lock"):
        (trial,) = run_trials(tmp_path / "s", access_of(tmp_path / "lock", "sweep b"), [], 1)
    assert [condition.name for condition in trial.conditions] == [SHARED_MACHINE]
    assert trial.outcome == "ok"


def test_where_the_lock_cannot_be_used_trials_run_all_the_same_with_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCALING_LOCK_FOLDER", str(tmp_path / "file"))
    with open_machine_access("sweep") as access:
        access.acquire()
        assert not caplog.text, "what can't be run at all is said alone"
        for _ in range(2):
            with access.held() as beside:
                assert beside.conditions() == ()
    assert caplog.text.count("the machine is not locked") == 1
    monkeypatch.setenv("SCALING_LOCK_FOLDER", str(tmp_path / "lock"))
    with open_machine_access("sweep", here=False) as access, access.held():
        assert not (tmp_path / "lock").exists(), "elsewhere the site has its own queue"


@pytest.mark.slow
def test_what_is_said_of_a_stopped_process():
    process = subprocess.Popen(["sleep", "60"])
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    command = Command(pid=process.pid, pid_namespace=None, purpose="sweep a", began_s=0, cores=())
    holder = LockHolder(name="turn-1-x", user="me", command=command, local=True)
    assert describe_wait(LockHolder(name="", user="me", command=None), 0, "12:00") == (
        "waiting since 12:00 for a process of user me"
    )
    pid, said = process.pid, describe_wait(holder, 2, "12:00")
    process.kill()
    process.wait()
    assert said == (
        f"waiting since 12:00 for sweep a (PID {pid}, user me), then 2 more; it is stopped: `kill -CONT {pid}` "
        f"continues it, `kill -KILL {pid}` ends it"
    )


def test_time_waited_is_in_no_estimate():
    progress = TrialProgress(Console(file=io.StringIO()), 4)
    progress.done, progress.began = 2, time.monotonic() - 120
    progress.waited(100)
    assert progress._time_left() == "about 20 s left"
    progress.waits("waiting for somebody", again=False)
    progress.waits("waiting for somebody", again=True)
    assert progress.console.file.getvalue() == "waiting for somebody\n"
