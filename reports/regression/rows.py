"""All series and findings that do not simply pass, as rows of text: for the terminal, Markdown and the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.core.text import one_line
from reports.regression import wording
from reports.regression.values import WORST_FIRST, Finding, Judgement, Status, Verdict


@dataclass(frozen=True)
class VerdictRow:
    """A finding, or a verdict that belongs to no finding. Texts are on one line."""

    status: Status
    curve: str
    ranks: str
    what: str
    change: str
    pairs: str
    why: str
    verdicts: tuple[Verdict, ...]
    """The verdicts that it summarizes."""
    finding: bool
    """Whether it is a finding: ``why`` is then a sentence that names its curve."""


def rows(judgement: Judgement) -> tuple[VerdictRow, ...]:
    """Rows, the worst first, findings before single series of the same status; passed series have none."""
    short, _ = wording.short_names(judgement.verdicts)
    unsorted = [*_findings(judgement, short), *_unsummarized(judgement, short)]
    return tuple(sorted(unsorted, key=lambda row: WORST_FIRST.index(row.status)))


def row_of(verdict: Verdict, short: Mapping[str, str]) -> VerdictRow:
    """The row of a single series of any status. ``short``: names by curve, see :func:`wording.short_names`."""
    curve, ranks = wording.split_name(verdict.name)
    metric_title = wording.METRIC_WORDING[verdict.metric].title
    change_direction = wording.direction(verdict)
    return VerdictRow(
        status=verdict.status,
        curve=wording.display_name(short.get(curve, curve)),
        ranks=ranks,
        what=f"{change_direction}: {metric_title}"
        if change_direction in ("slower", "faster", "lost scaling", "better scaling")
        else change_direction or metric_title,
        change=wording.change_text(verdict.change_pct, verdict.low_pct, verdict.high_pct, verdict.metric),
        pairs=wording.pairs_text(verdict.pairs_used, verdict.pairs_wanted),
        why=one_line(verdict.reason),
        verdicts=(verdict,),
        finding=False,
    )


def _findings(judgement: Judgement, short: Mapping[str, str]) -> Iterator[VerdictRow]:
    for finding in judgement.findings:
        verdicts = wording.finding_verdicts(finding, judgement.verdicts)
        metric = wording.metric_of(finding, judgement.verdicts)
        yield VerdictRow(
            status=finding.status,
            curve=wording.display_name(_curve_at_place(finding, short)),
            ranks=", ".join(map(str, finding.ranks)) or "–",
            what=wording.finding_title(finding, metric),
            change=wording.change_text(finding.change_pct, finding.low_pct, finding.high_pct, metric),
            pairs=_pairs(verdicts),
            why=one_line(finding.said),
            verdicts=verdicts,
            finding=True,
        )


def _curve_at_place(finding: Finding, short: Mapping[str, str]) -> str:
    name = f"{finding.curve} @ {finding.place}" if finding.place else finding.curve
    return short.get(name, name)


def _unsummarized(judgement: Judgement, short: Mapping[str, str]) -> Iterator[VerdictRow]:
    """Rows of the verdicts that no finding summarizes."""
    summarized = {id(verdict) for row in _findings(judgement, short) for verdict in row.verdicts}
    for verdict in judgement.verdicts:
        if verdict.status != "pass" and id(verdict) not in summarized:
            yield row_of(verdict, short)


def _pairs(verdicts: tuple[Verdict, ...]) -> str:
    """The highest number of pairs among the series of a finding."""
    used = max((verdict.pairs_used for verdict in verdicts), default=0)
    return wording.pairs_text(used, max((verdict.pairs_wanted for verdict in verdicts), default=0))
