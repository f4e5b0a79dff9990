"""An exception that nobody expected: status 70, never 1 (a regression); one line; the traceback in a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.warm import run_python

pytestmark = pytest.mark.slow

COMMAND = "import sys; sys.argv[1:] = ['list', '--plugin', 'p.py']; from harness.__main__ import main; sys.exit(main())"
PLUGIN = """
import sys
from bench.plugins.probe import ProbePlugin
class Broken(ProbePlugin):
    looks = 0
    @property
    def summary(self):
        Broken.looks += 1
        return "usable" if Broken.looks <= 2 else broken()
    @summary.setter
    def summary(self, text):
        pass
    def __init__(self): pass
PROBE = Broken()
def broken():
    {}
"""
"""A plugin that is loaded without a problem, and fails where the command uses it."""
WAYS = {
    "an exception": "{}['x']",
    "an exit": "sys.exit(1)",
    "an exit with a text": "sys.exit('text')",
    "an exit that says nothing": "sys.exit(0)",
    "no exception's child": "raise __import__('asyncio').CancelledError",
    "too deep": "broken()",
    "no memory": "raise MemoryError",
    "the end of a pipe": "raise EOFError",
    "no text": "raise ValueError('\\udcff\\x1b[31m\\n' * 1000)",
}


def run(program: str, folder: Path) -> subprocess.CompletedProcess:
    return run_python(["-c", program], folder, {"TMPDIR": str(folder)})


def run_anew(program: str, folder: Path, *before: str) -> subprocess.CompletedProcess:
    """In a process that is started and not forked."""
    return subprocess.run(
        [*before, sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def list_broken(folder: Path, statement: str, before: str = "") -> subprocess.CompletedProcess:
    (folder / "p.py").write_text(PLUGIN.replace("{}", statement))
    return run(before + COMMAND, folder)


def tracebacks(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.glob("scaling-harness-traceback-*.txt")]


@pytest.mark.parametrize("way", WAYS)
def test_the_status_is_no_verdict(tmp_path, way):
    done = list_broken(tmp_path, WAYS[way])
    assert done.returncode == 70, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert re.search(r"^error: \w+.*; its traceback is in \S+/scaling-harness-traceback-\w+\.txt$", lines[0])
    assert len(lines[0]) < 1000
    assert "\x1b" not in lines[0]
    (text,) = tracebacks(tmp_path)
    assert "in broken" in text


def test_only_its_user_reads_the_file(tmp_path):
    list_broken(tmp_path, "{}['x']")
    (file,) = tmp_path.glob("scaling-harness-traceback-*.txt")
    assert file.stat().st_mode & 0o777 == 0o600


def test_passwords_stay_out_of_it(tmp_path):
    done = list_broken(tmp_path, "raise ValueError('postgresql://me:hidden@db/x is bad')")
    assert "hidden" not in done.stderr
    assert "postgresql://me:***@db" in done.stderr
    message = tracebacks(tmp_path)[0].splitlines()[-1]
    assert "hidden" not in message


def test_without_a_folder_the_traceback_follows_the_line(tmp_path):
    nowhere = "import harness.defects as d; d.FOLDERS = ('/dev/null', '/proc/nothing')\n"
    done = list_broken(tmp_path, "{}['x']", nowhere)
    assert done.returncode == 70
    assert "/dev/null, /proc/nothing: no room for its traceback:" in done.stderr.splitlines()[0]
    assert done.stderr.rstrip().endswith("KeyError: 'x'")


def test_a_full_disk_keeps_no_half_a_file(tmp_path):
    full = "import harness.defects as d; d.FOLDERS = d.FOLDERS[:1]; import resource, signal\n"
    full += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
    (tmp_path / "p.py").write_text(PLUGIN.replace("{}", "{}['x']"))
    done = run_anew(full + COMMAND, tmp_path)  # its output goes to pipes, which that limit is not for
    assert done.returncode == 70
    assert done.stderr.rstrip().endswith("KeyError: 'x'")
    assert tracebacks(tmp_path) == []


def test_where_it_is_raised_at_the_top_of_a_program(tmp_path):
    done = run("from harness.defects import install_hooks; install_hooks(); {}['x']", tmp_path)
    assert done.returncode == 70
    assert done.stderr.startswith("error: KeyError: 'x' (<string>, line 1): a defect")


SIDES = {
    "thread": "import threading; t = threading.Thread(target=lambda: 1 / 0, name='aside'); t.start(); t.join()",
    "destructor": "exec('class A:\\n  def __del__(self): 1 / 0\\nA()')",
    "exit handler": "import atexit; atexit.register(lambda: 1 / 0)",
    "exit handler that exits": "import atexit; atexit.register(lambda: sys.exit(1))",
}


@pytest.mark.parametrize("side", SIDES)
def test_beside_the_command_it_changes_no_status(tmp_path, side):
    program = f"import sys\nfrom harness.defects import install_hooks; install_hooks()\n{SIDES[side]}\nsys.exit(3)"
    done = run(program, tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    if "exits" in side:
        assert done.stderr == ""
    else:
        assert re.fullmatch(r"warning: .*: ZeroDivisionError: .*; its traceback is in .*\n", done.stderr)


def test_what_fails_again_and_again_fills_no_folder(tmp_path):
    loop = "import threading\nfor _ in range(20):\n  t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()"
    done = run(f"from harness.defects import install_hooks; install_hooks()\n{loop}", tmp_path)
    assert done.stderr.count("\n") == 20
    assert len(tracebacks(tmp_path)) == 5


@pytest.mark.parametrize("limit_kib", [30_000, 45_000])
def test_without_memory_too(tmp_path, limit_kib):
    program = "import sys; sys.argv[1:] = ['list']; from harness.__main__ import main; raise SystemExit(main())"
    done = run_anew(program, tmp_path, "sh", "-c", f'ulimit -v {limit_kib} && exec "$@"', "sh")
    # pydantic's parser aborts the process where it gets no memory.
    assert done.returncode in (2, 70, -signal.SIGABRT), done.stderr


def test_in_programs_beside_the_command_too(tmp_path):
    """Continuous integration calls this one with a variable that is missing here."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    done = subprocess.run(
        [sys.executable, "-m", "harness.publish.github_artifacts", "results", str(tmp_path)],
        cwd=ROOT,
        env={**env, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert done.stderr.startswith("error: KeyError: 'GITHUB_REPOSITORY'")
    assert done.stderr.count("\n") == 1
