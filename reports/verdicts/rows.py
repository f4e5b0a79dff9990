"""What is no plain pass as rows of text, the worst first: the same in the terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reports.verdicts import words
from reports.verdicts.values import WORST_FIRST, Judgement, Status, Verdict


@dataclass(frozen=True)
class Row:
    """A finding, or a verdict that belongs to none. All but ``verdicts`` is text on one line."""

    status: Status
    curve: str
    ranks: str
    what: str
    change: str
    pairs: str
    why: str
    verdicts: tuple[Verdict, ...]
    """What stands behind it."""
    finding: bool
    """``why`` is a sentence that names its curve."""


def rows(judgement: Judgement) -> tuple[Row, ...]:
    """Findings before single series where both are as bad; what passed has no row."""
    short, _ = words.short_names(judgement.verdicts)
    found = [*_findings(judgement, short), *_single(judgement, short)]
    return tuple(sorted(found, key=lambda row: WORST_FIRST.index(row.status)))


def row_of(verdict: Verdict, short: Mapping[str, str]) -> Row:
    """Of a single series, whatever its status; ``short``: names by curve, see :func:`words.short_names`."""
    curve, ranks = words.split_name(verdict.name)
    about = words.NAMING[verdict.metric].title
    towards = words.direction(verdict)
    return Row(
        status=verdict.status,
        curve=words.name_line(short.get(curve, curve)),
        ranks=ranks,
        what=f"{towards}: {about}" if towards in ("slower", "faster", "lost scaling", "better scaling")
        else towards or about,
        change=words.change(verdict.change_pct, verdict.low_pct, verdict.high_pct, verdict.metric),
        pairs=words.pairs(verdict.pairs_used, verdict.pairs_wanted),
        why=words.one_line(verdict.reason),
        verdicts=(verdict,),
        finding=False,
    )  # fmt: skip


def _findings(judgement: Judgement, short: Mapping[str, str]) -> Iterator[Row]:
    for finding in judgement.findings:
        verdicts = words.behind(finding, judgement.verdicts)
        metric = words.metric_of(finding, judgement.verdicts)
        yield Row(
            status=finding.status,
            curve=words.name_line(short.get(finding.curve, finding.curve)),
            ranks=", ".join(map(str, finding.ranks)) or "–",
            what=words.what(finding, metric),
            change=words.change(finding.change_pct, finding.low_pct, finding.high_pct, metric),
            pairs=_pairs(verdicts),
            why=words.one_line(finding.said),
            verdicts=verdicts,
            finding=True,
        )


def _single(judgement: Judgement, short: Mapping[str, str]) -> Iterator[Row]:
    """Verdicts that no finding sums up: nothing that is no plain pass goes untold."""
    known = {id(verdict) for row in _findings(judgement, short) for verdict in row.verdicts}
    for verdict in judgement.verdicts:
        if verdict.status != "pass" and id(verdict) not in known:
            yield row_of(verdict, short)


def _pairs(verdicts: tuple[Verdict, ...]) -> str:
    """Of the series behind a finding the one with the most."""
    used = max((verdict.pairs_used for verdict in verdicts), default=0)
    return words.pairs(used, max((verdict.pairs_wanted for verdict in verdicts), default=0))
