"""The lock for the cores: who waits for whom, in which order, and what ends a wait."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.host import lock_folder as lock_folder_module
from bench.host.lock_folder import LockUnavailable, lock_folder
from bench.host.machine_lock import MachineLock
from tests.support.machine_lock import process_with_lock

HELD_S = 60.0


@contextmanager
def waiting(lock: MachineLock, ended: list[str], name: str):
    """A thread that acquires the lock, notes it in ``ended`` and releases it; it has its place in the queue already."""
    waits = threading.Event()

    def run() -> None:
        held = lock.acquire(lambda holder, more: waits.set())
        ended.append(name)
        held.release()

    thread = threading.Thread(target=run)
    thread.start()
    assert waits.wait(HELD_S)
    yield
    thread.join(HELD_S)
    assert not thread.is_alive()


def commands(folder: Path, count: int, cores=()):
    return [MachineLock(f"sweep {number}", cores, folder=folder) for number in range(count)]


def queued(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("turn-")]


def test_the_lock_is_granted_in_the_order_in_which_it_is_asked_for(tmp_path):
    ended: list[str] = []
    first, second, third, fourth = commands(tmp_path, 4)
    with first, second, third, fourth:
        held = first.acquire()
        with waiting(second, ended, "second"), waiting(third, ended, "third"), waiting(fourth, ended, "fourth"):
            assert ended == []
            held.release()
    assert ended == ["second", "third", "fourth"]
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_asks_again_comes_after_those_that_wait(tmp_path):
    ended: list[str] = []
    first, second = commands(tmp_path, 2)
    with first, second:
        held = first.acquire()
        with waiting(second, ended, "second"):
            held.release()
            first.acquire().release()
            assert ended == ["second"]


def test_who_does_not_want_to_wait_gets_the_lock_where_nobody_asked_before(tmp_path):
    ended: list[str] = []
    first, second, third = commands(tmp_path, 3)
    with first, second, third:
        held = first.acquire_if_free()
        assert second.acquire_if_free() is None
        with waiting(second, ended, "second"):
            assert third.acquire_if_free() is None
            assert len(queued(tmp_path)) == 2
            held.release()
        again = third.acquire_if_free()
        assert queued(tmp_path)
        again.release()
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_while_waiting(tmp_path):
    seen = []
    first, second, third = commands(tmp_path, 3)

    def stop_waiting(holder, more):
        seen.append((str(holder), more))
        raise KeyboardInterrupt

    with first, second, third:
        held, ended = first.acquire(), []
        with waiting(second, ended, "second"):
            with pytest.raises(KeyboardInterrupt):
                third.acquire(stop_waiting)
            assert len(queued(tmp_path)) == 2, "who was interrupted left the queue"
            held.release()
    name = lock_folder_module.user_name(os.geteuid())
    assert seen == [(f"sweep 0 (PID {os.getpid()}, user {name})", 1)]


@pytest.mark.slow
def test_nobody_waits_for_a_process_that_was_killed(tmp_path):
    (lock,) = commands(tmp_path, 1)
    with process_with_lock(tmp_path) as process, lock:
        ended: list[str] = []
        with waiting(lock, ended, "after"):
            assert [holder.command.pid for holder in lock.others()] == [process.pid]
            process.kill()
            process.wait()
        assert ended == ["after"]
        assert lock.others() == []
        lock.acquire().release()
    assert list(tmp_path.iterdir()) == [], "files of the killed process are removed"


@pytest.mark.slow
def test_a_stopped_process_is_seen_to_be_stopped(tmp_path):
    (lock,) = commands(tmp_path, 1)
    with process_with_lock(tmp_path) as process, lock:
        states = []

        def report(holder, more):
            states.append(holder.is_stopped())
            if len(states) == 1:
                process.send_signal(signal.SIGSTOP)
            if states[-1]:
                process.send_signal(signal.SIGCONT)
                process.stdin.close()

        lock.acquire(report).release()
    assert states[0] is False
    assert True in states


@pytest.mark.slow
def test_a_process_does_not_wait_for_the_one_that_has_started_it(tmp_path):
    (lock,) = commands(tmp_path, 1)
    with lock:
        held = lock.acquire()
        with process_with_lock(tmp_path):
            held.release()


@pytest.mark.parametrize(
    ("cores", "wait"), [(((0, 1), (2, 3)), False), (((0, 1), (1, 2)), True), (((), (2,)), True), (((2,), ()), True)]
)
def test_only_commands_with_a_common_core_wait_for_each_other(tmp_path, cores, wait):
    ours, theirs = (MachineLock("sweep", numbers, folder=tmp_path) for numbers in cores)

    def fail(holder, more):
        raise KeyboardInterrupt

    with ours, theirs:
        held = ours.acquire()
        if wait:
            with pytest.raises(KeyboardInterrupt):
                theirs.acquire(fail)
        else:
            theirs.acquire(fail).release()
        assert bool(theirs.others()) == wait
        held.release()


def test_what_others_put_into_the_folder_is_never_waited_for_nor_followed(tmp_path):
    (lock,) = commands(tmp_path, 1)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    token = "0" * 16
    (tmp_path / f"turn-1-{token}").symlink_to(secret)
    os.mkfifo(tmp_path / f"turn-2-{token}")
    (tmp_path / f"turn-3-{token}").mkdir()
    with lock:
        lock.acquire().release()
    assert secret.read_text() == "secret"


def test_a_file_that_says_nothing_sensible_is_waited_for_and_shown_safely(tmp_path):
    (lock,) = commands(tmp_path, 1)
    own = f'{{"pid": {os.getpid()}, "pid_namespace": null, "purpose": "\\u001b[2J\\n{"x" * 500}"'
    texts = ["\x00", own + ', "began_s": 0, "cores": []}', own + ', "began_s": 0, "cores": [], "pid": -5}']
    shown = []

    def stop(holder, more):
        shown.append(str(holder))
        raise KeyboardInterrupt

    path = tmp_path / f"turn-1-{'0' * 16}"
    with lock:
        for text in texts:
            path.write_text(text)
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                with pytest.raises(KeyboardInterrupt):
                    lock.acquire(stop)
    assert len(shown) == len(texts)
    assert all(text.isprintable() and len(text) < 160 for text in shown)


def test_a_folder_that_a_link_leads_to_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LockUnavailable, match=r"link can't be used .*; remove it, or name another one by SCALING_"):
        MachineLock("sweep", (), folder=tmp_path / "link")
    (tmp_path / "file").write_text("")
    with pytest.raises(LockUnavailable):
        MachineLock("sweep", (), folder=tmp_path / "file")


@pytest.mark.slow
def test_a_folder_that_was_removed_meanwhile_is_that_of_the_commands_which_began_since(tmp_path):
    folder = tmp_path / "lock"
    with MachineLock("sweep of before", (), folder=folder) as before:
        before.acquire().release()
        shutil.rmtree(folder)
        with process_with_lock(folder):
            assert before.acquire_if_free() is None
            assert [holder.command.purpose for holder in before.others()] == ["sweep of somebody"]
        before.acquire().release()
    assert list(folder.iterdir()) == []


def test_a_folder_that_other_commands_would_not_find_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LockUnavailable, match=r"^folder lock can't be used .*; name it by its whole path in SCALING_"):
        MachineLock("sweep", (), folder=Path("lock"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_where_the_disk_of_the_folder_is_full_that_is_the_remedy(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom bench.host.machine_lock import MachineLock\n"
        "MachineLock('sweep', (), folder=Path(sys.argv[1])).__enter__()"
    )
    script = f"mount -t tmpfs -o size=8k tmpfs {tmp_path} && mkdir {tmp_path}/lock; cat /dev/zero >{tmp_path}/zero;"
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'{script} exec "$0" "$@"',
        sys.executable,
        "-c",
        program,
        str(tmp_path / "lock"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "(No space left on device); free some space there, or name another one by" in done.stderr, done.stderr


def test_the_folder_is_open_to_every_user_and_the_machines_own_by_default(tmp_path, monkeypatch):
    before = os.umask(0o077)
    try:
        with MachineLock("sweep", (), folder=tmp_path / "lock") as lock:
            held = lock.acquire()
            (name,) = queued(tmp_path / "lock")
            assert (tmp_path / "lock" / name).stat().st_mode & 0o777 == 0o644
            held.release()
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o7777 == 0o1777
    monkeypatch.delenv(lock_folder_module.FOLDER_VARIABLE)
    assert lock_folder().name == lock_folder_module.FOLDER_NAME
    assert lock_folder().parent in lock_folder_module.MACHINE_FOLDERS
