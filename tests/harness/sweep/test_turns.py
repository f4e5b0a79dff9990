"""Turns of a command: trials of two sweeps never overlap, waiting is nobody's time, and company is flagged."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from rich.console import Console

from bench.backends.ddp import BACKEND
from bench.host.machine_turns import Holder, MachineTurns, Ticket
from harness.sweep.progress import TrialProgress
from harness.sweep.runner import run_round
from harness.sweep.turns import SHARED_MACHINE, Turns, describe_wait, open_turns
from reports.analysis.flags import FLAG_MEANINGS
from reports.analysis.trust import LIMITED_TRUST, LOW_TRUST
from tests.support.builders import make_case
from tests.support.turns import SiteHere

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


def machine(folder: Path, purpose: str, *, shared=False) -> Turns:
    return Turns(MachineTurns(purpose, (), shared=shared, folder=folder))


def run_trials(folder: Path, turns: Turns, seen: list, count: int):
    """The trials of a round of a sweep in a folder of its own."""
    cases = [make_case(ranks=1, ranks_per_node=1, batch=size) for size in range(1, count + 1)]
    with turns:
        return list(run_round(cases, 0, SiteHere(seen), {"ddp": BACKEND}, folder, "e", Silent(), turns))


def test_trials_of_two_sweeps_never_overlap(tmp_path):
    seen: list[tuple[str, str]] = []
    threads = [
        threading.Thread(target=run_trials, args=(tmp_path / name, machine(tmp_path / "turns", name), seen, 4))
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
    ours, theirs = machine(tmp_path, "sweep a"), machine(tmp_path, "sweep b")
    theirs.watcher = waits
    with ours, theirs:
        ours.take()
        thread = threading.Thread(target=theirs.take)
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


def test_a_turn_within_a_turn_is_the_same_and_ends_with_the_outer_one(tmp_path):
    ours, other = machine(tmp_path, "a"), MachineTurns("b", (), folder=tmp_path)

    def refuse(holder, more):
        raise KeyboardInterrupt

    def others_may() -> bool:
        try:
            other.take(refuse).end()
        except KeyboardInterrupt:
            return False
        return True

    with ours, other:
        ours.take()
        with ours.turn():
            with ours.turn():
                assert not others_may()
            assert not others_may()
        assert others_may()


def test_an_error_in_a_trial_ends_its_turn(tmp_path):
    ours = machine(tmp_path, "a")
    try:
        with ours, ours.turn():
            raise ValueError
    except ValueError:
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_shares_waits_for_nobody_and_both_are_flagged(tmp_path):
    waits = Waits()

    def opened(purpose: str, *, shared: bool) -> Turns:
        turns = machine(tmp_path, purpose, shared=shared)
        turns.watcher = waits
        return turns

    with opened("sweep b", shared=False) as exclusive, exclusive.turn() as theirs:
        assert theirs.conditions() == ()
        with opened("sweep a", shared=True) as shared, shared.turn() as ours:
            (seen,) = ours.conditions()
            assert seen.name == SHARED_MACHINE
            assert seen.seen.startswith("sweep b (PID ")
        assert not theirs.conditions(), "it came and went: nobody was there at the end"
    with opened("sweep a", shared=True), opened("sweep b", shared=False) as exclusive, exclusive.turn() as theirs:
        (seen,) = theirs.conditions()
        assert seen.seen.startswith("sweep a (PID ")
    with opened("sweep a", shared=True) as shared, shared.turn() as ours:
        assert ours.conditions() == (), "nobody else was there"
    assert waits.texts == []
    assert SHARED_MACHINE in FLAG_MEANINGS
    assert SHARED_MACHINE in {**LOW_TRUST, **LIMITED_TRUST}


def test_the_condition_is_one_of_the_trial(tmp_path):
    with MachineTurns("sweep a", (), shared=True, folder=tmp_path / "turns"):
        (trial,) = run_trials(tmp_path / "s", machine(tmp_path / "turns", "sweep b"), [], 1)
    assert [condition.name for condition in trial.conditions] == [SHARED_MACHINE]
    assert trial.outcome == "ok"


def test_where_turns_cannot_be_taken_trials_run_all_the_same_with_a_warning(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SCALING_TURNS", str(tmp_path / "file"))
    with open_turns("sweep") as turns:
        turns.take()
        assert not caplog.text, "what can't be run at all is said alone"
        for _ in range(2):
            with turns.turn() as company:
                assert company.conditions() == ()
    assert caplog.text.count("no turns are taken") == 1
    monkeypatch.setenv("SCALING_TURNS", str(tmp_path / "turns"))
    with open_turns("sweep", here=False) as turns, turns.turn():
        assert not (tmp_path / "turns").exists(), "elsewhere the site has its own queue"


def test_what_is_said_of_a_stopped_process():
    process = subprocess.Popen(["sleep", "60"])
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    ticket = Ticket(pid=process.pid, pid_namespace=None, purpose="sweep a", began_s=0, cores=())
    holder = Holder(name="turn-1-x", user="me", ticket=ticket, local=True)
    assert describe_wait(Holder(name="", user="me", ticket=None), 0, "12:00") == (
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
