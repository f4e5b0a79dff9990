"""What a killed start leaves in the temporary folder and in shared memory is removed by the next one, and only that."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.host.scratch import LOCK_FILE, LOCK_TEXT, PREFIX, remove_abandoned

SHARED_MEMORY = Path("/dev/shm")
START = """
import json, os, sys, tempfile, time
import multiprocessing, pathlib
from bench.node.forkserver import start_forkserver
context = start_forkserver((), always=())
semaphore = context.Lock()
handle, _ = tempfile.mkstemp()
shared = os.environ.get("SCALING_SHARED_MEMORY")
if shared:
    (pathlib.Path(shared) / "segment").write_bytes(b"x")
print(json.dumps([tempfile.gettempdir(), semaphore._semlock.name, shared]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Start a process that holds a forkserver, a semaphore, a temporary file and a file in shared memory."""
    started = []

    def start_one(temporary: Path = tmp_path) -> tuple[subprocess.Popen, list[str]]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("SCALING_")}
        process = subprocess.Popen(
            [sys.executable, "-c", START],
            env={**env, "TMPDIR": str(temporary)},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process, json.loads(process.stdout.readline())

    yield start_one
    for process in started:
        kill(process)


def kill(process: subprocess.Popen) -> None:
    """Kill it and what it started, the process that would remove its semaphores among them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def named_after(folder: str | None) -> list[Path]:
    return list(SHARED_MEMORY.glob(f"*{Path(folder).name}*")) if folder else []


@pytest.mark.slow
def test_the_next_start_removes_what_a_killed_one_left(start, tmp_path):
    (tmp_path / "somebody's.txt").write_text("kept")
    (tmp_path / "pymp-of-another").mkdir()
    process, (folder, semaphore, shared) = start()
    kill(process)
    assert list(Path(folder).iterdir()), "a killed process removes nothing"
    later, (its_folder, _, its_shared) = start()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"somebody's.txt", "pymp-of-another", Path(its_folder).name}
    assert not (SHARED_MEMORY / f"sem.{semaphore.removeprefix('/')}").exists()
    assert named_after(shared) == []
    later.communicate("", timeout=30)
    assert {path.name for path in tmp_path.iterdir()} == {"somebody's.txt", "pymp-of-another"}
    assert named_after(its_shared) == []


@pytest.mark.slow
def test_what_a_living_start_uses_stays(start, tmp_path):
    process, (folder, semaphore, shared) = start()
    start()
    assert process.poll() is None
    assert Path(folder).is_dir()
    if shared:
        assert (Path(shared) / "segment").exists()
        assert (SHARED_MEMORY / f"sem.{semaphore.removeprefix('/')}").exists()


def test_a_folder_that_only_looks_like_ours_stays(tmp_path):
    notes, empty, other = (tmp_path / f"{PREFIX}{name}" for name in ("notes", "empty", "other"))
    for folder, lock in ((notes, "my own lock file\n"), (empty, None), (other, LOCK_TEXT)):
        folder.mkdir()
        if lock is not None:
            (folder / LOCK_FILE).write_text(lock)
    (tmp_path / f"{PREFIX}link").symlink_to(notes)
    target = tmp_path / "precious"
    target.write_text(LOCK_TEXT)
    (empty / LOCK_FILE).symlink_to(target)
    if os.geteuid() == 0:
        os.chown(other, 65534, 65534)
    else:
        (other / LOCK_FILE).unlink()
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.slow
def test_sockets_are_in_a_short_folder_where_the_temporary_folder_is_deep(start, tmp_path):
    deep = tmp_path / ("d" * 118)
    deep.mkdir()
    process, (folder, _, _) = start(deep)
    assert Path(folder).parent == deep
    process.communicate("", timeout=30)
    assert process.returncode == 0
    assert list(deep.iterdir()) == []
