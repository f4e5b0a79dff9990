"""Output that never ends, or has no line ends, takes no more memory than its limit."""

from __future__ import annotations

import os
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.host.bounded import MAX_LINE_BYTES, Excerpt, bounded_lines
from bench.host.commands import CommandTimeout, run_command
from bench.host.processes import pid_alive

pieces = st.lists(st.binary(max_size=40), max_size=30)


@given(pieces)
def test_an_excerpt_of_short_output_is_all_of_it(parts):
    excerpt = Excerpt(10_000)
    for part in parts:
        excerpt.add(part)
    assert excerpt.decode() == b"".join(parts).decode(errors="replace")


@given(st.lists(st.text(alphabet="abc\n", max_size=40), max_size=30))
def test_an_excerpt_of_long_output_has_its_beginning_and_its_end(parts):
    excerpt, whole = Excerpt(20), "".join(parts)
    for part in parts:
        excerpt.add(part.encode())
    if len(whole) <= 20:
        assert excerpt.decode() == whole
    else:
        assert excerpt.decode() == f"{whole[:10]}\n… {len(whole) - 20} bytes left out …\n{whole[-10:]}"


def test_an_excerpt_of_much_more_than_its_limit_takes_its_limit():
    excerpt, piece = Excerpt(2**20), b"x" * 2**16
    tracemalloc.start()
    for _ in range(2**10):
        excerpt.add(piece)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**22
    assert f"… {2**26 - 2**20} bytes left out …" in excerpt.decode()


@given(pieces)
def test_short_lines_are_those_of_the_whole(parts):
    whole = b"".join(parts)
    expected = whole.split(b"\n")
    expected = expected[:-1] if not expected[-1] else expected
    assert list(bounded_lines(parts)) == [line.decode(errors="replace").removesuffix("\r") for line in expected]


def test_a_line_of_much_more_than_its_limit_takes_its_limit():
    parts = (b"y" * 2**16 for _ in range(2**10))
    tracemalloc.start()
    (line,) = bounded_lines(parts)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2**21
    assert line == "y" * MAX_LINE_BYTES + f" … {2**26 - MAX_LINE_BYTES} bytes left out"


def test_a_line_may_be_longer_by_its_beginning():
    long = b"long " + b"z" * (3 * MAX_LINE_BYTES)
    parts = [long[:10], long[10:], b"\nother " + long, b"\nend"]
    first, second, third = bounded_lines(parts, lambda beginning: 2**20 if beginning.startswith(b"long ") else 0)
    assert first == long.decode()
    assert second.startswith("other long ")
    assert second.endswith(f" … {len(long) + 6 - MAX_LINE_BYTES} bytes left out")
    assert third == "end"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


@pytest.mark.slow
def test_a_command_that_floods_both_outputs_is_cut():
    flood = "import sys; [s.write('f' * 2**20 + '\\n') for _ in range(32) for s in (sys.stdout, sys.stderr)]"
    done = run_command(python(flood + "; sys.exit(3)"), 60, max_bytes=2**16)
    assert done.returncode == 3
    for output in (done.stdout, done.stderr):
        assert "bytes left out" in output
        assert len(output) < 2**16 + 100


@pytest.mark.slow
def test_a_command_gets_its_input_and_environment(tmp_path):
    program = "import os, sys; print(sys.stdin.read(), os.environ['HERE'], os.getcwd())"
    done = run_command(python(program), 60, text="in", env={**os.environ, "HERE": "x"}, folder=tmp_path)
    assert done.stdout == f"in x {tmp_path}\n"


@pytest.mark.slow
def test_a_command_that_does_not_end_is_killed_with_what_it_has_started():
    program = (
        "import os, signal, subprocess; child = subprocess.Popen(['sleep', '317']); print(child.pid, flush=True);"
        " os.kill(os.getpid(), signal.SIGSTOP)"
    )
    began = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"did not answer within 1.5 s") as problem:
        run_command(python(program), 1.5)
    assert problem.value.stdout.strip().isdigit()
    assert time.monotonic() - began < 10
    assert not [pid for pid in _sleepers() if pid_alive(pid)]


def _sleepers() -> list[int]:
    """The processes of this test that still sleep: children of none, in a session of another."""
    import psutil

    ours = psutil.Process().uids().real
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "uids", "ppid"])
        if process.info["cmdline"] == ["sleep", "317"] and process.info["uids"].real == ours
    ]


@pytest.mark.slow
def test_a_process_that_holds_the_output_open_is_not_waited_for():
    program = "import subprocess; subprocess.Popen(['sleep', '7'], start_new_session=True); print('done')"
    began = time.monotonic()
    assert run_command(python(program), 60).stdout == "done\n"
    assert time.monotonic() - began < 6


@pytest.mark.slow
def test_a_command_that_does_not_read_does_not_block():
    assert run_command(python("print('early')"), 60, text="x" * 2**22).stdout == "early\n"
