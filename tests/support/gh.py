"""An executable `gh` that answers what a test has laid down and keeps a record of what it was asked."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = """#!{python}
import json, sys
from pathlib import Path

folder = Path({folder!r})
with (folder / "asked.jsonl").open("a") as asked:
    body = "" if sys.stdin.isatty() else sys.stdin.read()
    asked.write(json.dumps({{"arguments": sys.argv[1:], "body": body}}) + "\\n")
said = " ".join(sys.argv[1:])
for start, answer in json.loads((folder / "answers.json").read_text()).items():
    if said.startswith(start):
        if isinstance(answer, dict) and "fails" in answer:
            sys.exit(f"gh: {{answer['fails']}}")
        print(answer if isinstance(answer, str) else json.dumps(answer), end="")
        break
"""


@dataclass(frozen=True)
class Gh:
    folder: Path

    def answer(self, answers: dict[str, Any]) -> None:
        """By the first words of a call: text as it is, anything else as JSON, ``{"fails": why}`` for a failure."""
        (self.folder / "answers.json").write_text(json.dumps(answers))

    @property
    def calls(self) -> list[list[str]]:
        return [call["arguments"] for call in self._asked()]

    @property
    def bodies(self) -> list[str]:
        return [call["body"] for call in self._asked()]

    def _asked(self) -> list[dict[str, Any]]:
        record = self.folder / "asked.jsonl"
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def install(folder: Path) -> tuple[Gh, dict[str, str]]:
    """The program in ``folder``, and an environment in which it is the only `gh`."""
    folder.mkdir()
    program = folder / "gh"
    program.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    gh = Gh(folder)
    gh.answer({})
    return gh, {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "GITHUB_REPOSITORY": "o/r"}
