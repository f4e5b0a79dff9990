"""A judgement for the terminal: a headline, a table of what is no plain pass, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.page import words as numbers
from reports.verdicts import words
from reports.verdicts.outcome import about, headline, next_steps
from reports.verdicts.rows import Row, rows
from reports.verdicts.values import Judgement, Status

WIDE = 100
"""From so many columns on what changed and its change have a column each."""
MOST_ROWS = 40
MOST_REASONS = 15
STYLES: dict[Status, str] = {
    "regressed": "bold red", "failed": "red", "missing": "red", "suspect": "yellow", "inconclusive": "yellow",
    "incomparable": "yellow", "new": "cyan", "improved": "green", "pass": "green",
}  # fmt: skip


def above(judgement: Judgement) -> list[str]:
    """The lines to print before the table: the verdict in a sentence, and what was judged."""
    _, shared = words.short_names(judgement.verdicts)
    return [f"{headline(judgement)}.", about(judgement), *([f"all curves: {shared}"] if shared else [])]


def table(judgement: Judgement, width: int = 110) -> Any:
    """A rich table, the worst first, or ``None`` where everything passed; rich leaves out colours off a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = rows(judgement)[:MOST_ROWS]
    if not found:
        return None
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    wide = width >= WIDE
    changes = ("what", "change (95 %)") if wide else ("what, change (95 %)",)
    for name in ("status", "curve", "ranks", *changes, "pairs"):
        right = name in ("ranks", "pairs") or (wide and name in changes[1:])
        made.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name != "curve")
    for row in found:
        change = (row.what, row.change) if wide else (f"{row.what}\n{row.change}".removesuffix("\n–"),)
        made.add_row(Text(row.status, style=STYLES[row.status]), *map(Text, (row.curve, row.ranks, *change, row.pairs)))
    return made


def below(judgement: Judgement) -> list[str]:
    """The lines to print after it: reasons, what to do next, and how often the rule is wrong."""
    found = rows(judgement)
    left_out = [f"… and {len(found) - MOST_ROWS:,} more; `--json` has them all"] if len(found) > MOST_ROWS else []
    return [
        *left_out,
        *_reasons(found),
        *(f"{step}." if not step.command else str(step) for step in next_steps(judgement)),
        words.assurance(judgement.assurance),
    ]


def _name(row: Row) -> str:
    """``synthetic · ddp-gloo, 4 ranks, step time``"""
    ranks = [] if row.ranks == "–" else [numbers.ranks(int(row.ranks))]
    return ", ".join([row.curve, *ranks, words.NAMING[row.verdicts[0].metric].title])


def _reasons(found: tuple[Row, ...]) -> Iterator[str]:
    """One line for each reason, however many series share it."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if row.why:
            groups.setdefault((row.status, row.why), []).append(row)
    for (status, why), alike in list(groups.items())[:MOST_REASONS]:
        if alike[0].finding:
            yield f"{status}: {why}"
        else:
            more = f" and {len(alike) - 1:,} more" if len(alike) > 1 else ""
            yield f"{status}: {_name(alike[0])}{more}: {why}"
    if len(groups) > MOST_REASONS:
        yield f"… and {len(groups) - MOST_REASONS:,} further reasons; `--json` has them all"
