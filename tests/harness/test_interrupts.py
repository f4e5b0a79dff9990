"""What ends a command from outside is an interrupt: what it has started is ended, and what it has measured reported."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.interrupts import interrupts_allowed, interrupts_deferred, signals_as_interrupts

PROGRAM = """
import sys, time
from harness.interrupts import signals_as_interrupts
from harness.streams import StandardStreams
streams = StandardStreams()
with signals_as_interrupts():
    try:
        print("ready", flush=True)
        time.sleep(30)
    except KeyboardInterrupt:
        print("written to nobody" * 1000, flush=True)
        print("written to nobody", file=sys.stderr)
        time.sleep(0.2)
        open("tidy", "w").close()
sys.exit(streams.exit_status(130))
"""


@pytest.mark.slow
@pytest.mark.parametrize("hang_ups", [0, 3], ids=["once", "passed on by a shell"])
def test_a_terminal_that_vanishes_interrupts(tmp_path, hang_ups):
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            root = str(Path(__file__).parents[2])
            os.chdir(tmp_path)
            os.execve(sys.executable, [sys.executable, "-c", PROGRAM], {**os.environ, "PYTHONPATH": root})
        finally:
            os._exit(99)
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    for _ in range(hang_ups):
        time.sleep(0.03)
        os.kill(pid, signal.SIGHUP)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert (tmp_path / "tidy").exists()


def test_a_hang_up_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_others_interrupt_once_they_are_asked_for(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals_as_interrupts():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_a_deferred_interrupt_is_raised_at_the_end():
    done = []

    @interrupts_deferred()
    def act():
        interrupt()
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert done
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_it_is_raised_where_interrupts_are_allowed_and_only_once():
    with interrupts_deferred():
        interrupt()
        with pytest.raises(KeyboardInterrupt), interrupts_allowed():
            pytest.fail("it was waiting")
        with pytest.raises(KeyboardInterrupt), interrupts_allowed():
            interrupt()


def test_the_second_one_is_raised_at_once():
    first = interrupts_deferred()
    first.__enter__()
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    with pytest.raises(KeyboardInterrupt):
        first.__exit__(None, None, None)


def test_an_interrupt_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_deferred():
            interrupt()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_defers_nothing():
    def run():
        with interrupts_deferred(), interrupts_allowed():
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
