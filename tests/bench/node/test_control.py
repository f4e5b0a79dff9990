"""What reaches a node agent on standard input: half a command, noise without end, and the end of all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import sys, time, tracemalloc
from bench.node.control import HarnessDisconnected, NodeControl

control = NodeControl(listen=True)
print(control.read_first_line(), flush=True)
tracemalloc.start()
deadline = time.monotonic() + 60
try:
    while not control.stop_requested() and time.monotonic() < deadline:
        pass
    print("end requested", time.monotonic() < deadline)
except HarnessDisconnected:
    print("disconnected")
print(tracemalloc.get_traced_memory()[1] < 2**20)
"""


def told(*pieces: bytes) -> list[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        for piece in pieces:
            process.stdin.write(piece)
            process.stdin.flush()
        output, _ = process.communicate(timeout=90)
    return output.decode().splitlines()


def test_noise_takes_no_memory_and_a_command_in_two_halves_counts():
    noise = [b"z" * 2**20] * 16
    assert told(b'{"case": 1}\nnoise ', *noise, b"e", b"nd\n") == ["{'case': 1}", "end requested True", "True"]


def test_the_end_of_input_is_the_end_of_the_harness():
    assert told(b"1\n", b"en") == ["1", "disconnected", "True"]


FED = """
from bench.node.control import HarnessDisconnected, NodeControl

control = NodeControl(listen=True)
try:
    while (document := control.next_document(lambda: print("idle", flush=True), 0.01)) is not None:
        print(document, flush=True)
    print("end requested")
except HarnessDisconnected:
    print("disconnected")
"""


def fed(text: bytes) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", FED],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=text,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return [line for line in done.stdout.decode().splitlines() if line != "idle"]


def test_documents_follow_each_other_until_an_end_is_requested():
    assert fed(b'{"a": 1}\n\n2\nend\n3\n') == ["{'a': 1}", "2", "end requested"]
    assert fed(b"1\n") == ["1", "disconnected"]
    assert fed(b"no document\n1\n") == ["disconnected"]
