"""A judgement as Markdown for the summary of a CI job and for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reports.formats.markdown_text import code, take_fitting, text
from reports.regression import wording
from reports.regression.rows import VerdictRow, rows
from reports.regression.summary import headline, next_steps, subtitle, title
from reports.regression.values import Judgement

BODY_LIMIT = 60_000
"""Characters before the footer."""
UNFOLDED_ROWS = 20
"""Rows that are shown; more are folded."""
HEADER = "| Status | Curve | Ranks | What | Change (95 %) | Pairs | Why |\n|---|---|--:|---|--:|--:|---|\n"
MARKER = "<!-- scaling-harness check -->\n"
SIGNATURE = re.compile(rb"\A(<!-- scaling-harness check -->|## Nightly check: )")
"""The beginning of every text. Earlier ones began with the heading."""


def markdown(judgement: Judgement) -> str:
    """The whole text, at most :data:`GITHUB_COMMENT_LIMIT` characters."""
    _, shared = wording.short_names(judgement.verdicts)
    facts = [text(subtitle(judgement), 600), *([f"All curves: {code(shared)}"] if shared else [])]
    header = (
        f"{MARKER}## Nightly check: {title(judgement)}\n\n**{text(headline(judgement), 600)}.**\n\n{'  '.join(facts)}\n"
    )
    footer = "".join((*_next_steps(judgement), f"\n{text(wording.assurance_text(judgement.assurance), 600)}\n"))
    all_rows = rows(judgement)
    lines = take_fitting(map(_line, all_rows), BODY_LIMIT - len(header) - len(footer))
    table = f"\n{HEADER}{''.join(lines[:UNFOLDED_ROWS])}" if lines else ""
    if folded := lines[UNFOLDED_ROWS:]:
        summary = f"<summary>{len(folded):,} more</summary>"
        table += f"\n<details>{summary}\n\n{HEADER}{''.join(folded)}\n</details>\n"
    if len(lines) < len(all_rows):
        table += f"\n{len(all_rows) - len(lines):,} further rows do not fit here.\n"
    return header + table + footer


def _line(row: VerdictRow) -> str:
    status = f"**{row.status}**" if row.status in ("regressed", "failed", "missing") else row.status
    cells = (status, code(row.curve), text(row.ranks), text(row.what), row.change, row.pairs, text(row.why))
    return f"| {' | '.join(cells)} |\n"


def _next_steps(judgement: Judgement) -> Iterator[str]:
    steps = next_steps(judgement)
    if steps:
        yield "\n"
    for step in steps:
        yield f"- {text(step.reason)}{f': {code(step.command, 600)}' if step.command else ''}\n"
