"""Logs stay small on disk and readable, whatever a process prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from bench.host import logs
from bench.host.logs import (
    KEPT_BEGINNING_BYTES,
    KEPT_BYTES,
    MAX_ERROR_LENGTH,
    MAX_LOG_BYTES,
    describe_exception,
    last_lines,
    read_end,
    shorten_log,
    traceback_lines,
)


def test_a_log_that_is_too_long_keeps_its_beginning_and_its_end(tmp_path):
    log = tmp_path / "rank-0.log"
    log.write_bytes(b"the first error\n" + b"x" * 99 + b"\n")
    assert shorten_log(log) == 0
    with log.open("ab") as file:
        file.truncate(MAX_LOG_BYTES)
        file.write(b"\nthe end\n")
    for _ in range(2):
        dropped = log.stat().st_size - KEPT_BEGINNING_BYTES - KEPT_BYTES
        assert shorten_log(log) == dropped
        assert log.stat().st_size < KEPT_BEGINNING_BYTES + KEPT_BYTES + 100
        assert last_lines(log, 1) == ["the end"]
        assert log.read_text().startswith("the first error\nxxx")
        assert log.read_text().count("dropped here") == 1
        assert f"\n[{dropped} bytes of output were dropped here]\n" in log.read_text()
        assert shorten_log(log) == 0
        with log.open("ab") as file:
            file.write(b"y" * MAX_LOG_BYTES + b"\nthe end\n")
    assert shorten_log(tmp_path / "absent") == 0


@pytest.mark.slow
def test_a_process_goes_on_writing_to_a_log_that_was_shortened(tmp_path):
    log = tmp_path / "rank-0.log"
    program = "import sys; print('x' * 2**24, flush=True); sys.stdin.read(1); print('after')"
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-c", program], text=True, stdin=subprocess.PIPE, stdout=output)
    while not log.stat().st_size > MAX_LOG_BYTES:
        assert process.poll() is None
    assert shorten_log(log)
    process.communicate("y", timeout=30)
    assert log.stat().st_blocks * 512 < MAX_LOG_BYTES / 8
    assert last_lines(log, 1) == ["after"]


def test_binary_output_becomes_text_that_terminals_and_databases_take(tmp_path):
    log = tmp_path / "rank-0.log"
    log.write_bytes(b"loss\t0.5\r\n\x00\x1b[2J\xff\xfe\x07\n" + b"z" * 10_000 + b"\n")
    first, binary, long = last_lines(log, 3)
    assert first == "loss\t0.5"
    assert binary.isprintable()
    assert "\x1b" not in binary
    assert len(long) < 600


def test_little_is_read_of_a_long_log(tmp_path):
    log = tmp_path / "rank-0.log"
    with log.open("wb") as file:
        file.truncate(2**34)  # sparse: reading all of it would take minutes and 16 GiB
        file.seek(0, 2)
        file.write(b"\nlast\n")
    assert last_lines(log, 1) == ["last"]
    assert sum(map(len, read_end(log, 7))) <= KEPT_BYTES
    assert last_lines(tmp_path / "absent", 5) == []


def test_what_is_read_after_a_position_survives_a_log_that_was_shortened(tmp_path):
    log = tmp_path / "rank-0.log"
    log.write_text("old\nnew\n")
    assert read_end(log, 4) == ["new", ""]
    assert read_end(log, 1000) == ["old", "new", ""]
    assert logs.printable_line("x" * 50, 10) == "xxxxxxxxxx …"


class Unreadable(Exception):
    def __str__(self):
        raise ValueError("no text")


def raised(problem: BaseException) -> BaseException:
    try:
        raise problem
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("problem", [RuntimeError("e" * 2**24), RuntimeError("\n".join(["e" * 100] * 2**17))])
def test_the_text_of_an_exception_has_a_limited_length(problem):
    described, lines = describe_exception(problem), traceback_lines(raised(problem))
    assert described.startswith("RuntimeError: eee")
    assert len(described) <= MAX_ERROR_LENGTH + 2
    assert described.isprintable()
    assert lines[0] == "Traceback (most recent call last):"
    assert re.fullmatch(r"… \d{8} characters left out", lines[-1])
    assert sum(map(len, lines)) < 10_000


def test_an_exception_is_described_as_python_does():
    assert describe_exception(KeyError("x")) == "KeyError: 'x'"
    assert describe_exception(ValueError()) == "ValueError"
    assert describe_exception(json.JSONDecodeError("bad", "", 0)).startswith("json.decoder.JSONDecodeError: bad")
    assert describe_exception(Unreadable()).endswith("Unreadable: <its text can't be read>")


def test_a_traceback_without_end_is_cut():
    def deeper(depth: int) -> None:
        deeper(depth + 1)

    with pytest.raises(RecursionError) as problem:
        deeper(0)
    assert len(traceback_lines(problem.value)) < 400
