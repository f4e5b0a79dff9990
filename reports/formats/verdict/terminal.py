"""A judgement for the terminal: a headline, a table of what does not simply pass, and the next steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reports.analysis import formatting as numbers
from reports.formats.console import literal
from reports.regression import wording
from reports.regression.rows import VerdictRow, rows
from reports.regression.summary import headline, next_steps, subtitle
from reports.regression.values import Judgement, Status

WIDE_COLUMNS = 100
"""Terminal width from which the metric and its change have a column each."""
MAX_ROWS = 40
MAX_REASONS = 15
STYLES: dict[Status, str] = {
    "regressed": "bold red",
    "failed": "red",
    "missing": "red",
    "suspect": "yellow",
    "inconclusive": "yellow",
    "incomparable": "yellow",
    "new": "cyan",
    "improved": "green",
    "pass": "green",
}


def header_lines(judgement: Judgement) -> list[str]:
    """Lines above the table: the headline, and what was judged."""
    _, shared = wording.short_names(judgement.verdicts)
    return [f"{headline(judgement)}.", subtitle(judgement), *([f"all curves: {shared}"] if shared else [])]


def table(judgement: Judgement, width: int = 110) -> Any:
    """A rich table, the worst first; ``None`` where everything passed. ``width``: columns of the terminal."""
    from rich import box
    from rich.table import Table

    shown = rows(judgement)[:MAX_ROWS]
    if not shown:
        return None
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    wide = width >= WIDE_COLUMNS
    changes = ("what", "change (95 %)") if wide else ("what, change (95 %)",)
    for name in ("status", "curve", "ranks", *changes, "pairs"):
        align_right = name in ("ranks", "pairs") or (wide and name in changes[1:])
        made.add_column(name, justify="right" if align_right else "left", overflow="fold", no_wrap=name != "curve")
    for row in shown:
        what, change = literal(row.what), literal(row.change)
        parts = (what, change) if wide else (what if row.change == "–" else what.append("\n").append_text(change),)
        cells = (literal(row.curve), literal(row.ranks), *parts, literal(row.pairs))
        made.add_row(literal(row.status, STYLES[row.status]), *cells)
    return made


def footer_lines(judgement: Judgement) -> list[str]:
    """Lines below the table: reasons, next steps, and the error rates of the rule."""
    all_rows = rows(judgement)
    omitted = [f"… and {len(all_rows) - MAX_ROWS:,} more; `--json` has them all"] if len(all_rows) > MAX_ROWS else []
    return [
        *omitted,
        *_reasons(all_rows),
        *(f"{step}." if not step.command else str(step) for step in next_steps(judgement)),
        wording.assurance_text(judgement.assurance),
    ]


def _row_title(row: VerdictRow) -> str:
    """``synthetic · ddp-gloo, 4 ranks, step time``"""
    ranks = [] if row.ranks == "–" else [numbers.ranks(int(row.ranks))]
    return ", ".join([row.curve, *ranks, wording.METRIC_WORDING[row.verdicts[0].metric].title])


def _reasons(all_rows: tuple[VerdictRow, ...]) -> Iterator[str]:
    """One line for each reason, however many series share it."""
    groups: dict[tuple[str, str], list[VerdictRow]] = {}
    for row in all_rows:
        if row.why:
            groups.setdefault((row.status, row.why), []).append(row)
    for (status, why), same_reason in list(groups.items())[:MAX_REASONS]:
        if same_reason[0].finding:
            yield f"{status}: {why}"
        else:
            more = f" and {len(same_reason) - 1:,} more" if len(same_reason) > 1 else ""
            yield f"{status}: {_row_title(same_reason[0])}{more}: {why}"
    if len(groups) > MAX_REASONS:
        yield f"… and {len(groups) - MAX_REASONS:,} further reasons; `--json` has them all"
