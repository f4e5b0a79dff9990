"""The summary of a sweep in sentences: the answer of each workload, problems and flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.analysis import changes, formatting
from reports.analysis.answer_text import answer_sentence
from reports.analysis.answers import workload_answers
from reports.analysis.bottleneck import MIN_SHARE, TERM_TITLES, efficiency_losses
from reports.analysis.cells import Cell
from reports.analysis.findings import Findings, group_cells
from reports.analysis.flags import remedy
from reports.page import axes_section, nodes_section
from reports.page.decisions_section import cost_text, have_unequal_trials


def loss_summary(cell: Cell) -> str:
    """``59 % lost: exposed communication 54 %, other 5 %`` of a step: the largest first; empty where all are small."""
    if cell.decomposition is None or cell.case.ranks < 2:
        return ""
    losses = sorted(efficiency_losses(cell.decomposition).items(), key=lambda item: -item[1])
    named = [(TERM_TITLES[cause], share) for cause, share in losses if share >= MIN_SHARE]
    if not named:
        return ""
    named.append(("other", sum(share for _, share in losses) - sum(share for _, share in named)))
    shown, total = changes.parts_of_total([share for _, share in named])
    parts = (f"{title} {share}" for (title, _), share in zip(named, shown, strict=True) if share != "0 %")
    return f"{total} lost: {', '.join(parts)}"


def answer_sentences(findings: Findings) -> list[str]:
    """A sentence for each workload, then those of :func:`further_sentences`."""
    return [*map(answer_sentence, workload_answers(findings)), *further_sentences(findings)]


def further_sentences(findings: Findings) -> list[str]:
    """A sentence for each workload whose GPUs wait for the host, each axis, and each curve over several nodes."""
    decided = [cost_text(findings.decisions)] if findings.decisions is not None else []
    if findings.decisions is not None and have_unequal_trials(findings.decisions, findings.cells):
        decided.append("Decisions compare cells over the rounds that both were in, tables over all of their trials.")
    return [
        *decided,
        *_launch_bound_sentences(findings.cells),
        *(axes_section.axis_sentence(comparison) for comparison in findings.axes),
        *nodes_section.node_answers(findings.placements),
    ]


def _launch_bound_sentences(cells: Sequence[Cell]) -> Iterator[str]:
    """For each workload the cell whose GPU waits the longest."""
    for group in group_cells(cells):
        bound = [cell for cell in group.cells if cell.launch_bound is not None]
        if bound:
            worst = max(bound, key=lambda cell: cell.launch_bound.host_bound_share.value if cell.launch_bound else 0)
            assert worst.launch_bound is not None
            yield f"{group.title}: under {worst.labels.backend_at_ranks} {worst.launch_bound.answer}"


def problem_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each reason why a cell is not ok, then one for each condition that may have disturbed trials."""
    return [*outcome_lines(cells), *_condition_lines(cells)]


def outcome_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each reason why a cell is not ok."""
    cells_by_problem: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.outcome != "ok":
            cells_by_problem.setdefault(f"{cell.outcome}: {cell.reason}", []).append(cell)
    lines = []
    for problem, group in cells_by_problem.items():
        first = group[0].labels.title
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        lines.append(f"{first}{more} {problem}")
    return lines


def flag_lines(findings: Findings) -> list[str]:
    """One line for the flags of all cells, and one for each flag of fitted curves, with its remedy."""
    counts: dict[str, int] = {}
    for name in (name for cell in findings.cells for name in cell.flags):
        counts[name] = counts.get(name, 0) + 1
    counts_text = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
    lines = [f"Flagged cells: {counts_text}; their meaning is under Flags."] if counts_text else []
    seen: dict[str, list[str]] = {}
    for key, curve in findings.curves.items():
        labels = findings.curve_cells[key][0].labels
        for name, what in curve.fit_flags.items():
            seen.setdefault(name, []).append(f"{labels.workload} · {labels.backend}: {what}")
    for name, curves_with in seen.items():
        more = f" (and {formatting.counted(len(curves_with) - 1, 'more curve')})" if len(curves_with) > 1 else ""
        lines.append(f"{name}: {curves_with[0]}{more}; {remedy(name)}")
    return lines


def _condition_lines(cells: Sequence[Cell]) -> list[str]:
    """One line for each condition, with its first description and its remedy."""
    cells_by_problem: dict[str, list[Cell]] = {}
    for cell in cells:
        for name in dict.fromkeys(condition.name for condition in cell.conditions):
            cells_by_problem.setdefault(name, []).append(cell)
    lines = []
    for name, group in cells_by_problem.items():
        seen = next(condition.seen for condition in group[0].conditions if condition.name == name)
        count = formatting.counted(len(group), "cell")
        lines.append(f"{name} in {count}: {seen} ({group[0].labels.title}); {remedy(name)}")
    return lines
