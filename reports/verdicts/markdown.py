"""A judgement as Markdown that fits a job summary and a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from reports.verdicts import words
from reports.verdicts.outcome import about, headline, next_steps, title
from reports.verdicts.rows import Row, rows
from reports.verdicts.values import Judgement

LIMIT = 65_536
"""Characters that GitHub takes in one comment."""
ROOM = 60_000
"""For everything but the last lines."""
OPEN_ROWS = 20
"""What follows is unfolded on demand."""
LONGEST = 240
"""Characters of a name or a reason."""
HEADER = "| Status | Curve | Ranks | What | Change (95 %) | Pairs | Why |\n|---|---|--:|---|--:|--:|---|\n"
MARKS = re.compile(r"[\\`*_{}\[\]<>|~$&\"':]")
CALLS = re.compile(r"([@#])(?=\w)")
NOTHING = "\u200b"


def markdown(judgement: Judgement) -> str:
    """The whole text, at most :data:`LIMIT` characters, however much there is to be told."""
    _, shared = words.short_names(judgement.verdicts)
    known = [text(about(judgement), 600), *([f"All curves: {code(shared)}"] if shared else [])]
    top = f"## Nightly check: {title(judgement)}\n\n**{text(headline(judgement), 600)}.**\n\n{'  '.join(known)}\n"
    end = "".join((*_next(judgement), f"\n{text(words.assurance(judgement.assurance), 600)}\n"))
    found = rows(judgement)
    lines = _fitting(map(_line, found), ROOM - len(top) - len(end))
    middle = f"\n{HEADER}{''.join(lines[:OPEN_ROWS])}" if lines else ""
    if folded := lines[OPEN_ROWS:]:
        summary = f"<summary>{len(folded):,} more</summary>"
        middle += f"\n<details>{summary}\n\n{HEADER}{''.join(folded)}\n</details>\n"
    if len(lines) < len(found):
        middle += f"\n{len(found) - len(lines):,} further rows are left out: there is no room for them here.\n"
    return top + middle + end


def text(said: str, longest: int = LONGEST) -> str:
    """As it is to be read: nothing in it is markup, breaks a table, or calls a person or an issue by their name."""
    return MARKS.sub(lambda mark: f"&#{ord(mark[0])};", CALLS.sub(rf"\1{NOTHING}", words.one_line(said, longest)))


def code(name: str, longest: int = LONGEST) -> str:
    """A name or a command, letter by letter as it is. Backticks would need a fence of their own for some names."""
    return f"<code>{MARKS.sub(lambda mark: f'&#{ord(mark[0])};', words.one_line(name, longest))}</code>"


def _line(row: Row) -> str:
    status = f"**{row.status}**" if row.status in ("regressed", "failed", "missing") else row.status
    cells = (status, code(row.curve), text(row.ranks), text(row.what), row.change, row.pairs, text(row.why))
    return f"| {' | '.join(cells)} |\n"


def _next(judgement: Judgement) -> Iterator[str]:
    steps = next_steps(judgement)
    if steps:
        yield "\n"
    for step in steps:
        yield f"- {text(step.said)}{f': {code(step.command, 600)}' if step.command else ''}\n"


def _fitting(lines: Iterable[str], room: int) -> list[str]:
    """The first lines that take no more than so many characters."""
    kept: list[str] = []
    for line in lines:
        room -= len(line)
        if room < 0:
            break
        kept.append(line)
    return kept
