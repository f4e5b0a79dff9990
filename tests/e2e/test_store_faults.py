"""Whatever befalls the store: one line that names it and the remedy, nothing lost, and --resume finishes the sweep."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from harness.store.tables import FORMAT
from tests.e2e.conftest import Harness

CELL = ("sweep", "lean.toml", "--backends", "single", "--workloads", "synthetic", "--device", "cpu", "--steps", "5")
PROGRESS = re.compile(r"\d+/\d+ |\d+ trials?: ")


@pytest.fixture(autouse=True)
def lean(harness):
    harness.lean()


@pytest.fixture(scope="session")
def swept(tmp_path_factory) -> bytes:
    """A real store that holds one finished sweep of two trials."""
    harness = Harness(tmp_path_factory.mktemp("swept"), preloaded=True)
    harness.lean()
    done = harness.run(*CELL, "--repeats", "2")
    assert done.returncode == 0, done.stderr
    return (harness.folder / ".runs" / "results.sqlite").read_bytes()


@pytest.fixture
def interrupted(swept, tmp_path) -> Path:
    """A real store whose sweep lacks its second trial."""
    path = tmp_path / "disk" / "r.sqlite"
    path.parent.mkdir()
    path.write_bytes(swept)
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("delete from trials where round = 1")
        store.execute("update sweeps set finished_at = null")
    return path


def told(done: subprocess.CompletedProcess, place: str) -> str:
    """The one line that an error is, beside the lines of what went well before."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if not PROGRESS.match(line)]
    assert re.match(f"error: (store {re.escape(place)}|folder \\S*{re.escape(str(Path(place).parent))}/[^/ ]+): ", line)
    return line


def trials(path: Path) -> dict[int, str]:
    """Outcome and body of each stored round."""
    with closing(sqlite3.connect(path)) as store, store:
        found = store.execute("select round, outcome, body from trials").fetchall()
    assert len(found) == len({number for number, _, _ in found}), "every trial once"
    return {number: f"{outcome} {body}" for number, outcome, body in found}


def after_first_trial(process: subprocess.Popen) -> None:
    while not (line := process.stderr.readline()).startswith("1/"):
        assert line, "the sweep ended before its first trial did"


def rest(process: subprocess.Popen) -> subprocess.CompletedProcess:
    with process:
        out, err = process.stdout.read(), process.stderr.read()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def locked(path: Path) -> sqlite3.Connection:
    """Another program that holds the store."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin exclusive")
    return other


def test_a_disk_that_fills_up_loses_no_trial(room, tmp_path):
    here = room("mount -t tmpfs -o size=64m none disk")

    def stored() -> dict[int, str]:
        assert here.inside("cp", "disk/r.sqlite", "seen.sqlite") == 0
        return trials(tmp_path / "seen.sqlite")

    process = here.start(*CELL, "--repeats", "3", "--store", "disk/r.sqlite")
    after_first_trial(process)
    assert here.inside("sh", "-c", "cat /dev/zero > disk/ballast") != 0, "until nothing more fits"
    line = told(rest(process), "disk/r.sqlite")
    assert re.search(r"cannot be written \((database or|its) disk is full\); free some space", line)
    assert "then `python -m harness sweep --resume --store disk/r.sqlite`" in line
    before = stored()
    assert 0 in before
    assert len(before) < 3
    assert all(trial.startswith("ok") for trial in before.values()), "one that fails for want of space is taken again"
    # What the trial held back, or left, is free by now.
    assert here.inside("sh", "-c", "cat /dev/zero >> disk/ballast") != 0
    for place in ("disk/r.sqlite", "disk/another.sqlite"):
        assert "free some space, or name another" in told(here.run(*CELL, "--store", place), place)

    assert here.inside("rm", "disk/ballast") == 0
    done = here.run("sweep", "--resume", "--store", "disk/r.sqlite")
    assert done.returncode == 0, done.stderr
    after = stored()
    assert sorted(after) == [0, 1, 2]
    assert all(trial.startswith("ok") for trial in after.values())
    assert before.items() <= after.items()
    here.nothing_left()


def test_a_read_only_store_can_be_reported_but_not_added_to(room, interrupted):
    before = interrupted.read_bytes()
    here = room("mount --bind disk disk && mount -o remount,bind,ro disk")
    assert "make the file and its folder writable" in told(here.run(*CELL, "--store", "disk/r.sqlite"), "disk/r.sqlite")
    assert "cannot be created in" in told(here.run(*CELL, "--store", "disk/new.sqlite"), "disk/new.sqlite")
    told(here.run("sweep", "--resume", "--store", "disk/r.sqlite"), "disk/r.sqlite")
    done = here.run("report", "--json", "--store", "disk/r.sqlite", "--out", "page.html")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cells"][0]["trials"] == 1
    assert interrupted.read_bytes() == before
    assert list(interrupted.parent.iterdir()) == [interrupted]


def test_a_store_that_another_holds_is_waited_for_as_long_as_the_url_says(harness, interrupted):
    place = f"sqlite:///{interrupted}?timeout=1"
    before = interrupted.read_bytes()
    other = locked(interrupted)
    for command in (CELL, ("report",), ("sweep", "--resume")):
        began = time.monotonic()
        line = told(harness.run(*command, "--store", place), place)
        assert time.monotonic() - began < 15, "the URL's second, not our half minute"
        assert "database is locked" in line
        assert "wait for the sweep or program that has locked it" in line
    other.close()
    assert interrupted.read_bytes() == before


def link(file: Path) -> str | None:
    """Where it leads; ``None`` of one that has just been closed."""
    with suppress(FileNotFoundError):
        return str(file.readlink())
    return None


def await_open(process, path: Path) -> None:
    """Until the process has opened the file."""
    deadline = time.monotonic() + 60
    target = str(path.resolve())
    while target not in (link(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the store was not opened"
        time.sleep(0.02)


def test_a_store_locked_between_two_trials_is_resumed(harness, tmp_path):
    path = tmp_path / "r.sqlite"
    place = f"sqlite:///{path}?timeout=0.5"
    process = harness.start(*CELL, "--repeats", "2", "--store", place)
    after_first_trial(process)
    other = locked(path)
    assert f"then `python -m harness sweep --resume --store '{place}'`" in told(rest(process), place)
    other.close()
    before = trials(path)
    assert list(before) == [0]

    # Held again, but only for a while: it is waited for.
    other = locked(path)
    process = harness.start("sweep", "--resume", "--store", str(path))
    await_open(process, path)
    time.sleep(1)
    assert process.poll() is None, process.communicate()
    other.close()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert sorted(trials(path)) == [0, 1]
    assert trials(path)[0] == before[0]


def test_a_store_of_a_newer_format_is_left_as_it_is(harness, interrupted):
    with closing(sqlite3.connect(interrupted)) as store, store:
        store.execute("update scaling_harness_about set format = format + 1")
    before = interrupted.read_bytes()
    for command in (CELL, ("report",), ("sweep", "--resume")):
        line = told(harness.run(*command, "--store", "disk/r.sqlite"), "disk/r.sqlite")
        said = f"(format {FORMAT + 1}, this one reads up to {FORMAT}); update the harness"
        assert f"written by a newer version {said}" in line
    assert interrupted.read_bytes() == before
    assert list(interrupted.parent.iterdir()) == [interrupted]


def overwritten(content: bytes) -> bytes:
    """All pages but the first two, whatever they hold by now: the tables are named, and can't be read."""
    return content[:8192] + b"\xa5" * (len(content) - 8192)


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [overwritten, truncated])
def test_a_damaged_store_is_left_as_it_is(harness, interrupted, damage):
    damaged = damage(interrupted.read_bytes())
    interrupted.write_bytes(damaged)
    for command in (CELL, ("report",), ("sweep", "--resume")):
        line = told(harness.run(*command, "--store", "disk/r.sqlite"), "disk/r.sqlite")
        assert "restore a copy of it, or name another with --store" in line
        assert len(line) < 400
    assert interrupted.read_bytes() == damaged
    assert list(interrupted.parent.iterdir()) == [interrupted]


def test_two_sweeps_at_once_make_and_share_a_store(harness):
    both = [harness.start(*CELL, "--repeats", "2", "--json") for _ in range(2)]
    ended = [(process.communicate(timeout=120), process.returncode) for process in both]
    assert [status for _, status in ended] == [0, 0], ended
    sweeps = {json.loads(out)["sweep"] for (out, _), _ in ended}
    assert len(sweeps) == 2
    for sweep in sweeps:
        done = harness.run("report", sweep, "--json")
        assert done.returncode == 0, done.stderr
        assert [cell["trials"] for cell in json.loads(done.stdout)["cells"]] == [2]
