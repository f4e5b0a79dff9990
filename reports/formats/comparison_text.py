"""What changed between two sweeps, cell by cell: a table for a terminal, and Markdown for a comment."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reports.analysis import changes, formatting
from reports.analysis.comparison import Change, Comparison
from reports.formats.console import literal
from reports.formats.markdown_text import code, text
from reports.page.comparison_section import comparison_sentence
from reports.regression.values import Status, Verdict

MARKER = "<!-- scaling-harness comparison -->\n"
SIGNATURE = re.compile(rb"\A<!-- scaling-harness comparison -->")
RESULTS = {"unclear": "statistically tied", "unknown": "not compared"}
UNJUDGED: tuple[Status, ...] = ("incomparable", "new", "failed")
STYLES = {"faster": "green", "slower": "red"}
NOTE = (
    "Throughput ratios with 95 % intervals over the trials of two sweeps. Check: its rule on the step time, with the "
    "first sweep as the only night before; a suspect is confirmed by `check --sweep B --baseline A --confirm`."
)
LIMIT = 60_000
"""Characters of a text: a comment on GitHub has at most 65,536."""


def result_text(change: Change) -> str:
    """``slower``, ``statistically tied``, or why there is no ratio."""
    return change.reason or RESULTS.get(change.direction, change.direction)


def comparison_table(comparison: Comparison, verdicts: Mapping[str, Verdict]) -> Any:
    """A Rich table with a row for each cell that both sweeps have. ``verdicts``: of `check`, by the key of a case."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("cell", overflow="fold", ratio=1)
    table.add_column(f"{comparison.other} against {comparison.first} (95 %)", overflow="fold", justify="right")
    table.add_column("result", overflow="fold")
    if verdicts:
        table.add_column("check", overflow="fold")
    for title, change in _titled(comparison):
        style = STYLES.get(change.direction, "")
        row = [literal(title), literal(changes.change(change.ratio)), literal(result_text(change), style)]
        table.add_row(*row, *([literal(_check_text(change, verdicts))] if verdicts else []))
    return table


def markdown(labels: Sequence[tuple[str, str, str]], comparison: Comparison, verdicts: Mapping[str, Verdict]) -> str:
    """The whole text.

    Args:
        labels: The label, the id and the title of each sweep.
        comparison: What changed between them.
        verdicts: Of `check`, by the key of a case.
    """
    named = "\n".join(f"- {label}: {code(sweep)} {text(title)}" for label, sweep, title in labels)
    head = f"{MARKER}## {comparison.other} against {comparison.first}\n\n{named}\n\n"
    head += f"{text(comparison_sentence(comparison), 2_000)}\n\n"
    rows = [
        f"| {text(title)} | {text(changes.change(change.ratio))} | {text(result_text(change))} "
        f"| {text(_check_text(change, verdicts))} |\n"
        for title, change in _titled(comparison)
    ]
    header = "| cell | throughput (95 %) | result | check |\n| --- | ---: | --- | --- |\n"
    remarks = "".join(f"\n{text(line)}\n" for line in check_remarks(verdicts))
    foot = f"{remarks}\n{NOTE}\n"
    shown: list[str] = []
    room = LIMIT - len(head) - len(header) - len(foot)
    for row in rows:
        room -= len(row)
        if room < 100:
            foot = f"\n{len(rows) - len(shown):,} more cells are not shown.\n{foot}"
            break
        shown.append(row)
    return head + (header + "".join(shown) if shown else "") + foot


def check_remarks(verdicts: Mapping[str, Verdict]) -> list[str]:
    """Why cells are not judged, each reason once: ``check: 4 cells are incomparable: host b, not a``."""
    reasons = Counter((verdict.status, verdict.reason) for verdict in verdicts.values() if verdict.status in UNJUDGED)
    return [
        f"check: {formatting.counted(count, 'cell')} {'is' if count == 1 else 'are'} {status}: {reason}"
        for (status, reason), count in reasons.items()
    ]


def _check_text(change: Change, verdicts: Mapping[str, Verdict]) -> str:
    verdict = verdicts.get(change.after.case.key)
    return verdict.status if verdict else "–"


def _titled(comparison: Comparison) -> Iterator[tuple[str, Change]]:
    for change in comparison.changes:
        against = f" against {change.before.labels.backend}" if comparison.across else ""
        yield f"{change.after.labels.title}{against}", change
