"""Another process that holds the lock of this machine, and a site on it that starts none."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.sites.base.contract import Job, Site, TrialResult
from tests.support.builders import make_record
from tests.support.paths import ROOT

HOLDER = """
import sys
from pathlib import Path
from bench.host.machine_lock import MachineLock
shared = sys.argv[2] == "shared"
with MachineLock("sweep of somebody", (), folder=Path(sys.argv[1]), shared=shared) as lock:
    held = None if shared else lock.acquire()
    print("ready", flush=True)
    sys.stdin.read()
    if held is not None:
        held.release()
"""


@contextmanager
def process_with_lock(folder: Path, *, shared: bool = False) -> Iterator[subprocess.Popen[str]]:
    """It holds the lock of a folder, or shares the machine, until its standard input is closed or this context ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), "shared" if shared else "exclusive"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stdin):
            pipe.close()


class SlowJob(Job):
    def __init__(self, seen: list[tuple[str, str]], name: str) -> None:
        self.seen, self.name = seen, name

    def wait(self, timeout_s):
        time.sleep(0.02)
        self.seen.append(("ends", self.name))
        return TrialResult("ok", None, (make_record(0, 1),), (), ())

    def cancel(self):
        pass


class SiteHere(Site):
    """A site on this machine whose trials, of one rank, say when they begin and end; it starts no process."""

    name, summary, uses_this_machine = "here", "", True

    def __init__(self, seen: list[tuple[str, str]], *, shares: bool = False) -> None:
        super().__init__()
        self.seen, self.shares_environment = seen, shares

    def render(self, case, roles):
        return {}

    def start(self, asked):
        self.seen.append(("begins", asked.folder.parent.name))
        return SlowJob(self.seen, asked.folder.parent.name)
