"""A repository of a user's own, which holds nothing of this project."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TRAIN = """
import time

STEP_S = 0.05

while True:
    began = time.perf_counter()
    time.sleep(STEP_S)
    print(f"speed: {1 / (time.perf_counter() - began):.3f} img/s", flush=True)
"""
"""A program whose steps take as long as they wait: other work on the machine hardly changes it."""
SUITE = """
workloads = ["script"]
backends = ["plain"]
ranks = [1]
repeats = 3
window_s = 0.5
warmup = 2
telemetry = "off"
decompose = false
own_cost = false
roofline = false

[workload.script]
command = "train.py"
metric = 'speed: ([0-9.]+) img/s'
"""


class UserRepository:
    """The files that are given, committed."""

    def __init__(self, path: Path, files: dict[str, str] | None = None) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        self.write({"train.py": TRAIN, "suite.toml": SUITE} if files is None else files)
        self.commit()

    def git(self, *arguments: str) -> str:
        named = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always")
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", str(self.path), *named, *arguments]
        return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)

    def commit(self) -> str:
        """Commit all files, and return the id as records have it."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a state of the program")
        return self.git("rev-parse", "--short=12", "HEAD")

    def slow_down(self, factor: float) -> str:
        """Make the steps of the program longer, and commit it."""
        text = (self.path / "train.py").read_text()
        self.write({"train.py": text.replace("STEP_S = 0.05", f"STEP_S = {0.05 * factor:g}")})
        return self.commit()

    def worktrees(self) -> list[str]:
        """Those beside the repository's own."""
        listed = self.git("worktree", "list", "--porcelain").splitlines()
        return [line for line in listed if line.startswith("worktree ")][1:]
