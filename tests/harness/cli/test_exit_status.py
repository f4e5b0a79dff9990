"""The exit status is that of the work: not of a reader that ends early, of a full disk, or of an interrupt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.stores import write_sweep
from tests.support.warm import run_python

pytestmark = pytest.mark.slow

HEADER = "night,benchmark,run,sample,seconds\n"


def rows(night: str, seconds: float) -> str:
    return "".join(f"{night},sort,{run},0,{seconds * (1 + run / 1000)}\n" for run in range(5))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.csv").write_text("ranks,throughput\n1,10\n2,18\n4,30\n")
    (tmp_path / "h.csv").write_text(HEADER + "".join(rows(f"2026-01-{day:02d}", 1.0) for day in range(1, 15)))
    (tmp_path / "slow.csv").write_text(HEADER + rows("2026-01-20", 2.0))
    pairs = "".join(f"sort,{number},{2 + number / 1000},{1 + number / 1000}\n" for number in range(12))
    (tmp_path / "pairs.csv").write_text("benchmark,pair,head_s,base_s\n" + pairs)
    write_sweep(str(tmp_path / "r.sqlite"), "s1", 2)
    return tmp_path


def start(folder: Path, *arguments: str, **settings) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    return subprocess.Popen([sys.executable, "-m", "harness", *arguments], cwd=folder, env=env, **settings)


REGRESSED = ("check", "--history", "h.csv", "--current", "slow.csv", "--pairs", "pairs.csv")
CODES = [
    (REGRESSED, 1),
    (("fit", "a.csv"), 0),
    (("list",), 0),
    (("export", "--store", "r.sqlite"), 0),
]


@pytest.mark.parametrize(("arguments", "code"), CODES, ids=[arguments[0] for arguments, _ in CODES])
def test_a_reader_that_ends_early_does_not_change_it(folder, arguments, code):
    reader, writer = os.pipe()
    os.close(reader)
    done = run_python(["-m", "harness", *arguments], folder, stdout=writer)
    os.close(writer)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_neither_does_one_that_takes_both_streams(folder):
    reader, writer = os.pipe()
    os.close(reader)
    done = run_python(["-m", "harness", "sweep", "--backends", "ddq"], folder, stdout=writer, stderr=writer)
    os.close(writer)
    assert done.returncode == 2


def test_nor_do_closed_streams(folder):
    command = f"exec {sys.executable} -m harness {' '.join(REGRESSED)} --html v.html <&- >&- 2>&-"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=env, check=False)
    assert done.returncode == 1, [file.read_text() for file in folder.glob("scaling-harness-traceback-*")]
    assert (folder / "v.html").read_text().rstrip().endswith("</html>"), "nothing else was written to its descriptor"


STATUS = "from harness.streams import StandardStreams as S; s = S(); print('text'); raise SystemExit(s.exit_status({}))"


@pytest.mark.parametrize(("status", "code"), [(0, 2), (1, 1), (130, 130)])
def test_output_that_is_lost_is_one_line(tmp_path, status, code):
    with Path("/dev/full").open("w") as full:
        done = run_python(["-c", STATUS.format(status)], tmp_path, stdout=full.fileno())
    assert done.returncode == code
    assert done.stderr == "error: standard output cannot be written (No space left on device); write elsewhere\n"


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii"},
        # Python's error handler is "surrogateescape" there, which raises for a character that the encoding lacks.
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
)
def test_an_encoding_that_lacks_characters_gets_escape_sequences(folder, env):
    process = start(folder, "fit", "a.csv", stdout=subprocess.PIPE, env=env, text=True)
    assert r"\u03c3 = " in process.communicate(timeout=60)[0]
    assert process.returncode == 0


def test_a_removed_folder_is_one_line(folder):
    command = f"mkdir gone && cd gone && rmdir ../gone && exec {sys.executable} -m harness list"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the current folder was removed, or can't be read; change into another one\n"


def test_where_no_file_can_be_written_a_sweep_is_refused_in_one_line(folder):
    command = f"ulimit -f 0 && exec {sys.executable} -m harness sweep --backends single --ranks 1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "set TMPDIR to a writable folder" in done.stderr


INTERRUPTED_IMPORT = """
import os, runpy, signal, sys
module = sys.argv.pop(1)
def interrupt(event, arguments):
    if event == "import" and arguments[0] == module:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
sys.argv[0] = "harness"
runpy.run_module("harness", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["pathlib", "typer.main", "scipy.optimize", "rich.table"])
def test_an_interrupt_while_modules_are_loaded_is_no_traceback(folder, module):
    """The process interrupts itself when it begins to import a module."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, module, "fit", "a.csv"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "interrupted\n"


def test_an_interrupt_that_is_ignored_stays_ignored(folder):
    """As a shell starts ``command &`` in a script."""
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{INTERRUPTED_IMPORT}"
    done = subprocess.run(
        [sys.executable, "-c", program, "scipy.optimize", "fit", "a.csv"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
