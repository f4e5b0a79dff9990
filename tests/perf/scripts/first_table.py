"""How long a new machine takes from a clone to its first table, and where the time goes.

    python tests/perf/scripts/first_table.py            until the first table (2 to 3 minutes)
    python tests/perf/scripts/first_table.py --whole    the whole suite, with Horovod compiled (5 minutes)

It clones this repository (commits only) and runs ``tox run -e sweep`` there, with an empty home: no pip cache, no wheel
of Horovod, no data. What it prints are the times at which parts of the command ended. The network is part of them.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
PARTS = (
    ("tox", re.compile(r"^tools$")),
    ("environment and its packages", re.compile(r"sweep: commands_pre")),
    ("page's scripts, cached wheel", re.compile(r"sweep: commands\[0\]")),
    ("plan, data, frameworks", re.compile(r"trials: ")),
    ("first round of all cells but Horovod's: the first table", re.compile(r"^first results, after")),
    ("the other rounds", re.compile(r"^first results, all rounds")),
    ("Horovod compiled", re.compile(r"^Horovod .* for torch .*: (built|cached)")),
    ("Horovod's cells, the page", re.compile(r"^report: ")),
)
"""The parts of the command, each with a line that follows its end."""


def main() -> int:
    whole = "--whole" in sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="first-table-") as folder:
        home, clone = Path(folder, "home"), Path(folder, "clone")
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PYTHON", "VIRTUAL"))}
        environment = {**kept, "HOME": str(home), "SCALING_LOCK_FOLDER": str(Path(folder, "turns"))}
        tools = f"{shlex.quote(sys.executable)} -m venv tools && . tools/bin/activate && pip install --quiet tox"
        process = subprocess.Popen(
            ["sh", "-c", f"{tools} && echo tools && exec tox run -e sweep"],
            cwd=clone,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        began = before = time.monotonic()
        parts, last_lines = list(PARTS), []
        for line in process.stdout:
            last_lines = [*last_lines, line][-20:]
            places = [place for place, (_, pattern) in enumerate(parts) if pattern.search(line)]
            if places:
                now = time.monotonic()
                print(f"{now - began:6.1f} s  (+{now - before:5.1f} s)  {parts[places[0]][0]}", flush=True)
                del parts[: places[0] + 1]
                before = now
            if not whole and line.startswith("first results"):
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        status = process.wait()
    if parts and whole:
        print("".join(last_lines), file=sys.stderr)
    return 1 if parts and whole else status if whole else 0


if __name__ == "__main__":
    sys.exit(main())
