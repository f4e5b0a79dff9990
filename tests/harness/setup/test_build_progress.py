"""What is shown of a build that takes minutes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from io import StringIO

import pytest

from bench.host.processes import pid_alive
from harness.setup.build_progress import BuildLog, run_logged

FETCHING = "Collecting horovod==0.28.1\n  Downloading horovod-0.28.1.tar.gz (3.5 MB)\n"
CONFIGURING = (
    f"{FETCHING}  running build_ext\n  -- Could not find CCache.\n  -- The CXX compiler identification is GNU\n"
)
COMPILING = f"{CONFIGURING}  [ 20%] Building CXX object a.o\n  [ 34%] Building CXX object b.o\n"
PACKING = f"{COMPILING}  [100%] Built target pytorch\n  running install_lib\n"
WRITER = """
import sys, time
print("  [ 50%] Building CXX object a.o", flush=True)
while True:
    time.sleep(0.01)
    if open(sys.argv[1]).read().count("compiling") >= 1:
        sys.exit(3)
"""


class Screen(StringIO):
    """What is shown, which the build waits for."""

    def __init__(self, path, terminal):
        super().__init__()
        self.path, self.terminal = path, terminal

    def isatty(self):
        return self.terminal

    def flush(self):
        self.path.write_text(self.getvalue())


@pytest.mark.parametrize(
    ("log", "phase"),
    [
        ("", "starting"),
        (FETCHING, "fetching the sources"),
        (CONFIGURING, "configuring"),
        (COMPILING, "compiling, 34 %"),
        (f"{COMPILING}  a.cc:3: warning: unused\n  -- Installing: x\n  [ 40", "compiling, 34 %"),
        (PACKING, "packing the wheel"),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_the_phase_is_the_furthest_that_was_written_of(log, phase, piece):
    build = BuildLog()
    for start in range(0, len(log), piece):
        build.read(log[start : start + piece])
    assert str(build) == phase


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [True, False])
def test_a_build_shows_where_it_is_and_leaves_its_log(tmp_path, terminal):
    screen, log = Screen(tmp_path / "screen", terminal), tmp_path / "build.log"
    screen.flush()
    log.write_text("[100%] Built target of another step\n")
    clock = itertools.count(0.0, 20.0).__next__
    command = [sys.executable, "-c", WRITER, str(screen.path)]
    assert run_logged(command, os.environ, log, "Horovod", screen, clock) == 3
    assert "Horovod: compiling, 50 %, " in screen.getvalue()
    assert log.read_text().endswith("[ 50%] Building CXX object a.o\n")
    if terminal:
        assert screen.getvalue().endswith("\r\x1b[K"), "the line is gone when the build has ended"
    else:
        assert "\x1b" not in screen.getvalue()
        assert screen.getvalue().endswith("\n")


@pytest.mark.slow
def test_an_interrupted_build_leaves_no_compiler_behind(tmp_path):
    compiler = (
        "import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
    )
    log = tmp_path / "build.log"

    class Interrupted(Screen):
        def flush(self):
            if log.read_text().strip():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_logged([sys.executable, "-c", compiler], os.environ, log, "Horovod", Interrupted(tmp_path / "s", True))
    assert ends(int(log.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_build_whose_command_is_killed_or_loses_its_terminal_leaves_no_compiler_behind(tmp_path, signum):
    log = tmp_path / "build.log"
    program = (
        "import os, pathlib, sys\n"
        "from harness.setup.build_progress import run_logged\n"
        "run_logged(['sh', '-c', 'sleep 600 & echo $!; wait'], os.environ, pathlib.Path(sys.argv[1]), 'Horovod')"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(log)], stdout=subprocess.DEVNULL) as command:
        while not (log.exists() and log.read_text().endswith("\n")):
            assert command.poll() is None
            time.sleep(0.01)
        command.send_signal(signum)
    assert ends(int(log.read_text()))


def ends(pid: int) -> bool:
    """Whether a process ends, within half a minute."""
    deadline = time.monotonic() + 30
    while pid_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not pid_alive(pid)


@pytest.mark.slow
def test_the_exit_status_is_that_of_the_command_and_one_that_is_missing_is_named(tmp_path):
    log = tmp_path / "build.log"
    with (tmp_path / "screen").open("w") as screen:
        assert run_logged(["sh", "-c", "exit 3"], os.environ, log, "Horovod", screen) == 3
        assert run_logged(["no-such-compiler"], os.environ, log, "Horovod", screen) == 1
    assert log.read_text() == "no-such-compiler: No such file or directory\n"
