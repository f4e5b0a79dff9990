"""Another process that has its turn on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

HOLDER = """
import sys
from pathlib import Path
from bench.host.machine_turns import MachineTurns
with MachineTurns("sweep of somebody", (), folder=Path(sys.argv[1])) as turns:
    turn = turns.take()
    print("taken", flush=True)
    sys.stdin.read()
    turn.end()
"""


@contextmanager
def process_with_turn(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """It has its turn in a folder of turns until its standard input is closed, or this context ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stdin):
            pipe.close()
