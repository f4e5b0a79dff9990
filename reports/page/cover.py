"""The first screen of a sweep's page: a row for each workload, the efficiency table, and what a reader does next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.core.text import one_line
from reports.analysis import answer_text, formatting
from reports.analysis.answers import EfficiencyValue, WorkloadAnswer
from reports.analysis.cells import Cell
from reports.analysis.trust import TrustWord
from reports.page.cover_elements import LEGEND, Answer, Cover, HeatCell, HeatGroup, HeatTable
from reports.page.large_sweeps import MAX_ANSWERS

MAX_PROBLEMS = 3
MAX_PROBLEM_LENGTH = 160
MAX_STATEMENTS = 4
NONE = "–"
GOOD, FAIR = 0.75, 0.5
"""Efficiencies from which on a cell of the table is good, or fair."""
TRUST_LEVELS: Mapping[TrustWord, str] = {"high": "good", "limited": "fair", "low": "poor", "none": "bad"}


class _Columns(NamedTuple):
    """Which columns the answers have: where there are no curves, nothing is said of scaling."""

    scaling: bool
    why: bool


def make_cover(
    answers: Sequence[WorkloadAnswer],
    cells: Sequence[Cell],
    above: Sequence[str],
    statements: Sequence[str],
    problems: Sequence[str],
    provenance: Sequence[tuple[str, ...]],
    note: str = "",
) -> Cover:
    """The first screen.

    Args:
        answers: One for each workload.
        cells: All cells, with titles for people.
        above: Sentences above all else: one for each sweep that is compared with the first, and one over all workloads
            where there are too many for a row each.
        statements: Sentences on axes and on nodes.
        problems: One line for each reason why a cell has no number.
        provenance: Rows of a name and its value in each sweep.
        note: What the user said about the sweep.
    """
    shared = _shared_conditions(answers)
    scaling = any(answer.scaled is not None for answer in answers)
    columns = _Columns(scaling, scaling or any(answer.cause is not None for answer in answers))
    return Cover(
        note=note,
        facts=(*_facts(provenance), *([("all workloads", " · ".join(shared))] if shared else [])),
        answers=tuple(_row(answer, shared, columns) for answer in answers[:MAX_ANSWERS]),
        more_answers=_more(len(answers) - MAX_ANSWERS, "workload"),
        heat=heat_table(answers[:MAX_ANSWERS]),
        above=tuple(above),
        statements=tuple(statements[:MAX_STATEMENTS]),
        more_statements=_more(len(statements) - MAX_STATEMENTS, "sentence"),
        outcome=answer_text.outcome_text(cells),
        problems=tuple(one_line(problem, MAX_PROBLEM_LENGTH) for problem in problems[:MAX_PROBLEMS]),
        more_problems=_more(len(problems) - MAX_PROBLEMS, "reason"),
        steps=tuple(answer_text.next_steps(answers, cells)),
        commands=tuple(dict.fromkeys(_values(provenance, "command"))),
    )


def _more(count: int, noun: str) -> str:
    return formatting.counted(count, f"more {noun}") if count > 0 else ""


def _values(provenance: Sequence[tuple[str, ...]], name: str) -> tuple[str, ...]:
    return next((row[1:] for row in provenance if row[0] == name), ())


FACTS = {"suite": "suite", "started, finished": "measured", "machine": "machine", "commit": "commit"}
"""Rows of the provenance on the first screen, and what they are called there."""


def _facts(provenance: Sequence[tuple[str, ...]]) -> list[tuple[str, str]]:
    """``measured 2026-11-27 04:39``: of several sweeps the values that differ, with their labels."""
    facts = []
    for name, title in FACTS.items():
        values = _values(provenance, name)
        if name == "started, finished":
            values = tuple(_day_and_minute(value) for value in values)
        elif name == "suite":
            values = tuple(value.partition(", ")[0] for value in values)
        if values:
            facts.append((title, _joined(values)))
    return facts


def _joined(values: Sequence[str]) -> str:
    if len(set(values)) == 1:
        return values[0]
    return "; ".join(f"{chr(ord('A') + number)}: {value}" for number, value in enumerate(values))


def _day_and_minute(value: str) -> str:
    """``2026-11-27 04:39 UTC`` of ``2026-11-27T04:39:53.920+00:00, …``."""
    start, _, end = value.partition(", ")
    unfinished = ", not finished" if end == "not finished" else ""
    zone = " UTC" if start.endswith("+00:00") else ""
    return f"{start[:16].replace('T', ' ')}{zone}{unfinished}"


def _shared_conditions(answers: Sequence[WorkloadAnswer]) -> list[str]:
    """The conditions that all workloads have in common, where there are several workloads."""
    if len(answers) < 2:
        return []
    parts = [answer.conditions.split(" · ") for answer in answers]
    return [part for part in parts[0] if all(part in other for other in parts)]


def _row(answer: WorkloadAnswer, shared: Sequence[str], columns: _Columns) -> tuple[Answer, ...]:
    own = [part for part in answer.conditions.split(" · ") if part not in shared]
    options = [option for option in answer.options.split(", ") if option not in answer.workload]
    detail = " · ".join(filter(None, (", ".join(options), *own, f"data: {answer.data}")))
    return (
        Answer("workload", answer.workload, detail),
        _fastest(answer),
        *(_reaches(answer) if columns.scaling else ()),
        *([_why(answer, "why it stops" if columns.scaling else "what limits a step")] if columns.why else ()),
        Answer("trust", answer.trust.word, answer.trust.reason, TRUST_LEVELS[answer.trust.word]),
    )


def _fastest(answer: WorkloadAnswer) -> Answer:
    text = answer_text.fastest_text(answer)
    if not answer.fastest:
        return Answer("fastest", NONE, text)
    tied, _, names = text.rpartition(": ")
    throughput = formatting.estimate(answer.fastest_throughput)
    detail = "; ".join(filter(None, (names if tied else "", throughput, answer.fastest_reason)))
    return Answer("fastest", tied or text, detail)


def _reaches(answer: WorkloadAnswer) -> tuple[Answer, ...]:
    """How far it scales; the reason why that is unknown is said once, where it says why it stops."""
    titles = (f"scales to (efficiency ≥ {answer_text.BAR_TEXT})", "throughput peaks at")
    if answer.scaled is None:
        return tuple(Answer(title, NONE) for title in titles)
    return (
        Answer(titles[0], answer_text.efficient_to_text(answer), answer_text.efficient_to_detail(answer)),
        Answer(titles[1], answer_text.peak_text(answer), answer_text.peak_detail(answer)),
    )


def _why(answer: WorkloadAnswer, title: str) -> Answer:
    cause = answer.cause
    if cause is None:
        return Answer(title, NONE, answer_text.why_text(answer))
    detail = "; ".join(filter(None, (f"of {cause.of}", answer_text.data_text(answer))))
    return Answer(title, f"{cause.name}: {formatting.share(cause.share)}", detail)


def heat_table(answers: Sequence[WorkloadAnswer]) -> HeatTable:
    """The efficiency table of all workloads; throughputs where there is no efficiency at all."""
    counts = sorted({ranks for answer in answers for ranks in answer.rank_counts})
    has_efficiency = any(
        value.efficiency is not None and not value.is_baseline
        for answer in answers
        for row in answer.efficiency
        for value in row.values
    )
    groups = tuple(
        HeatGroup(
            answer.workload if len(answers) > 1 else "",
            tuple(
                (row.backend, tuple(_heat_cell(row.at(ranks), has_efficiency) for ranks in counts))
                for row in answer.efficiency
            ),
        )
        for answer in answers
    )
    caption = "Parallel efficiency by ranks" if has_efficiency else "Throughput by ranks"
    levels = {cell.level for group in groups for _, cells in group.rows for cell in cells if cell is not None}
    return HeatTable(
        caption,
        tuple(f"{ranks:,}" for ranks in counts),
        groups,
        tuple(entry for entry in LEGEND if entry[0] in levels),
    )


def _heat_cell(value: EfficiencyValue | None, has_efficiency: bool) -> HeatCell | None:
    if value is None:
        return None
    if value.throughput is None:
        outcome, _, reason = (value.reason or "no number").partition(": ")
        return HeatCell(outcome, "bad", reason)
    if not has_efficiency or value.efficiency is None:
        alone = value.throughput.model_copy(update={"low": None, "high": None})
        return HeatCell(formatting.estimate(alone), "plain", value.reason or "")
    if value.is_baseline:
        return HeatCell("base", "base", formatting.estimate(value.throughput))
    share = value.efficiency.value
    level = "good" if share >= GOOD else "fair" if share >= FAIR else "poor"
    return HeatCell(formatting.share(share), level, formatting.percent(value.efficiency))
