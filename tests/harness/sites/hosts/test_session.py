"""One command through ssh, in place of which stands a program of ours: what it writes is bounded, and it keeps nobody
waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from bench.host.logs import MAX_LOG_BYTES
from bench.node.transfer import LINE_PREFIX
from harness.sites.base.log_keeper import logs_kept_short, noisy_logs
from harness.sites.hosts.hosts_file import Host
from harness.sites.hosts.session import SshSession

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
LINES = "import sys\nfor _ in range(64): sys.{stream}.write(('y' * 63 + '\\n') * (2**20 // 64))\n"
ONE_LINE = "import sys\nfor _ in range(64): sys.stdout.write('z' * 2**20)\n"
ERROR = "raise RuntimeError('e' * 30_000_000)"
HALF = f'print({LINE_PREFIX!r} + \'{{"file": "record-0.json", "packed": "x\')'
GARBAGE = "import os; os.write(1, bytes(range(256)) * 1000)"


@pytest.fixture
def opened(tmp_path):
    sessions = []

    def start(program: str, messages=({},), take=lambda line: False) -> SshSession:
        ended = []
        command = [sys.executable, "-c", program]
        log = tmp_path / "node-0.log"
        sessions.append(SshSession(Host(name="h"), command, log, messages=messages, take=take, ended=ended.append))
        return sessions[-1]

    yield start
    for session in sessions:
        session.process.kill()
        session.close(time.monotonic() + 10)


@pytest.mark.parametrize("program", [LINES.format(stream="stdout"), LINES.format(stream="stderr"), ONE_LINE, ERROR])
def test_output_without_end_takes_little_memory_and_little_disk(opened, program):
    tracemalloc.start()
    session = opened(program)
    with logs_kept_short(lambda: [session.log], interval_s=0.05) as dropped:
        session.close(time.monotonic() + 60)
    tail = session.output_tail()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 * MEBIBYTE
    assert session.log.stat().st_size <= MAX_LOG_BYTES
    assert 1 <= len(tail) <= 40
    assert all(len(line) < 600 for line in tail)
    if program is not ONE_LINE:
        (condition,) = noisy_logs(dropped)
        assert condition.name == "noisy_log"
        assert condition.seen.startswith("node-0: ")


def test_half_a_message_and_garbage_are_no_file(opened):
    from bench.node.transfer import TransferReceiver

    session = opened(HALF)
    receiver = TransferReceiver(session.log.parent)
    session = opened(HALF, take=receiver.take)
    session.close(time.monotonic() + 30)
    assert session.problem == "a transferred line is incomplete or damaged"
    session = opened(GARBAGE, take=receiver.take)
    session.close(time.monotonic() + 30)
    assert session.problem == ""
    assert all(line.isprintable() or "\t" in line for line in session.output_tail())


def test_an_ssh_that_is_stopped_keeps_nobody_waiting(opened):
    began = time.monotonic()
    # More than a pipe holds: the message waits for its reader.
    session = opened("import time; time.sleep(60)", messages=[{"plugin": "x" * 2**21}])
    os.kill(session.process.pid, signal.SIGSTOP)
    session.request_end()
    session.disconnect()
    session.close(time.monotonic() + 1)
    assert time.monotonic() - began < 15
    assert session.was_disconnected
    assert session.status == -signal.SIGKILL


def test_a_message_arrives_and_the_end_of_input_is_noticed(opened):
    program = "import sys; print(len(sys.stdin.readline())); print(repr(sys.stdin.read()))"
    session = opened(program, messages=["x" * 2**21])
    session.request_end()
    session.disconnect()
    session.close(time.monotonic() + 30)
    assert session.output_tail() == [str(2**21 + 3), "'end\\n'"]
    assert session.status == 0


def test_a_log_is_shortened_while_its_program_writes(tmp_path):
    log = tmp_path / "client.log"
    program = (
        "import sys, time\nfor n in range(40):\n sys.stdout.write('a' * 2**20); sys.stdout.flush(); time.sleep(.01)"
    )
    with log.open("ab") as output, logs_kept_short(lambda: [log], interval_s=0.02) as dropped:
        subprocess.run([sys.executable, "-c", program], stdout=output, check=True)
    assert log.stat().st_size <= MAX_LOG_BYTES
    assert dropped["client"] >= 20 * MEBIBYTE
