"""The first screen of a page as Markdown, for the summary of a CI job and for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reports.analysis import formatting
from reports.formats.markdown_text import GITHUB_COMMENT_LIMIT, code, take_fitting, text
from reports.page.cover_elements import Answer, Cover, HeatCell, HeatTable
from reports.page.elements import Page

__all__ = ["GITHUB_COMMENT_LIMIT", "SIGNATURE", "markdown"]
BODY_LIMIT = 60_000
"""Characters in all; a job summary may have 1 MiB."""
ANSWERS_LIMIT, TABLE_LIMIT = 20_000, 16_000
"""Characters of the answers, and of the efficiency table."""
UNFOLDED_LINES = 6
"""Problems that are shown; more are folded."""
MARKER = "<!-- scaling-harness sweep -->\n"
SIGNATURE = re.compile(rb"\A<!-- scaling-harness sweep -->")
"""The beginning of every text."""


def markdown(page: Page) -> str:
    """The whole text, at most :data:`GITHUB_COMMENT_LIMIT` characters. Nothing in it is markup but its own.

    Args:
        page: Of one sweep, or of several side by side.

    Raises:
        ValueError: The page has no first screen, as that of a check.
    """
    cover = page.cover
    if cover is None:
        raise ValueError(f"the page {page.title!r} has no first screen")
    head = "".join(
        [
            f"{MARKER}## {text(page.title)}\n",
            *([f"\n{text(cover.note, 1000)}\n"] if cover.note else []),
            f"\n{' · '.join(f'{text(name)} {text(value)}' for name, value in cover.facts)}\n",
            *_answers(cover.answers),
            *([f"\n{cover.more_answers} are on the page.\n"] if cover.more_answers else []),
            *_heat(cover.heat),
        ]
    )
    tail = "".join(_tail(cover))
    notes = [*page.answers, *page.warnings]
    return head + "".join(_notes(cover.outcome, notes, BODY_LIMIT - len(head) - len(tail))) + tail


def _answers(rows: Sequence[Sequence[Answer]]) -> Iterator[str]:
    """One row for each workload, with what follows in small print below what is said first."""
    if not rows:
        return
    titles = [text(answer.title) for answer in rows[0]]
    yield f"\n{_row(titles)}{_row(['---'] * len(titles))}"
    yield from _fitting([_row([_answer(answer) for answer in row]) for row in rows], ANSWERS_LIMIT, "workload")


def _answer(answer: Answer) -> str:
    shown = " ".join(filter(None, (answer.mark, text(answer.text))))
    return f"**{shown}**<br>{text(answer.detail)}" if answer.detail else f"**{shown}**"


def _heat(table: HeatTable) -> Iterator[str]:
    """The efficiency table, with the marks of its levels: a row of bold text names each workload."""
    rows = []
    for group in table.groups:
        if group.title:
            rows.append(_row([f"**{text(group.title)}**", *[""] * len(table.columns)]))
        rows += [_row([text(backend), *map(_heat_cell, cells)]) for backend, cells in group.rows]
    if not rows:
        return
    yield f"\n{_row([text(table.caption), *map(text, table.columns)])}{_row(['---', *['--:'] * len(table.columns)])}"
    yield from _fitting(rows, TABLE_LIMIT, "row")
    if table.legend:
        yield f"\n{', '.join(f'{mark} {text(meaning)}' for _, mark, meaning in table.legend)}\n"


def _heat_cell(cell: HeatCell | None) -> str:
    return "–" if cell is None else " ".join(filter(None, (cell.mark, text(cell.text))))


def _notes(outcome: str, notes: Sequence[str], limit: int) -> Iterator[str]:
    """How many cells are ok, what changed, and what failed or was skipped."""
    lines = take_fitting((f"- {text(note, 600)}\n" for note in notes), limit - 400)
    yield f"\n**{text(outcome)}**\n\n{''.join(lines[:UNFOLDED_LINES])}"
    if folded := lines[UNFOLDED_LINES:]:
        yield f"\n<details><summary>{len(folded):,} more</summary>\n\n{''.join(folded)}\n</details>\n"
    if left := len(notes) - len(lines):
        yield f"\n{formatting.counted(left, 'further line')} would not fit here.\n"


def _tail(cover: Cover) -> Iterator[str]:
    """What to do next, and how to repeat the sweep."""
    yield f"\nNext: {'; '.join(text(step) for step in cover.steps)}.\n"
    for command in cover.commands:
        yield f"\nRepeat: {code(command, 2000)}\n"


def _fitting(rows: Sequence[str], limit: int, noun: str) -> Iterator[str]:
    kept = take_fitting(rows, limit)
    yield from kept
    if left := len(rows) - len(kept):
        yield f"\n{formatting.counted(left, f'further {noun}')} would not fit here.\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
