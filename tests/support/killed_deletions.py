"""Deletions of a sweep that are killed before each of their operations on files, one after the other.

    python -m tests.support.killed_deletions MADE FOLDER

copies the folder MADE, which holds a store ``r.sqlite`` with a sweep ``s2``, to FOLDER for each. A program of its own:
it forks, which a test that has threads must not. It prints a JSON list, in which each deletion is what it left and what
the next command of that kind left of that.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.cli.app import main
from harness.store.deletion import stored_rows
from harness.store.opening import open_store

MOST = 200
WRITES = {"os.remove", "os.rmdir", "os.rename", "os.mkdir", "shutil.rmtree"}


def kill_before(operations: int) -> None:
    """End this process by SIGKILL before it begins one more than so many operations that change files."""
    begun = 0

    def kill(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal begun
        writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in WRITES or writing:
            begun += 1
            if begun > operations:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)


def deletion(operations: int) -> int:
    """The exit status of a deletion that is killed after so many operations."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kill_before(operations)
    os._exit(main(["sweeps", "delete", "s2", "--yes", "-q", "--store", "r.sqlite"]))


def state(folder: Path) -> dict[str, Any]:
    with closing(open_store("r.sqlite", create=False)) as store:
        rows = stored_rows(store.database, "s2").model_dump()
        sweeps = store.sweep_ids()
    return {
        "sweeps": sweeps,
        "rows": rows,
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
    }


def run(made: Path, folder: Path) -> list[dict[str, Any]]:
    found = []
    for operations in range(MOST):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(made, folder)
        os.chdir(folder)
        status = deletion(operations)
        left = state(folder)
        if main(["sweeps", "prune", "--keep", "99", "--yes", "-q", "--json", "--store", "r.sqlite"]) != 0:
            raise AssertionError("the next command does not work")
        found.append({"status": status, "left": left, "then": state(folder)})
        if status == 0:
            break
    return found


if __name__ == "__main__":
    results, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]))), file=results)
