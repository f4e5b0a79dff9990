"""What reaches a node agent on standard input: half a command, noise without end, and the end of all."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.paths import ROOT

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
