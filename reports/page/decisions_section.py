"""What a sweep decided, which went on until its questions were decided (:mod:`reports.analysis.decisions`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.decisions import NO_QUESTION, Decision, Decisions, Rival
from reports.analysis.findings import group_cells
from reports.analysis.group_titles import short_titles
from reports.analysis.scaling_reach import EFFICIENCY_BAR
from reports.analysis.titles import enumerate_names
from reports.page.elements import Section, Table

TITLE = "What was decided"
HEADER = ("workload", "question", "answer", "others ÷ answer", "trials")


def sections(decisions: Decisions | None, cells: Sequence[Cell]) -> tuple[Section, ...]:
    """One section; none of a sweep with a fixed number of rounds."""
    if decisions is None:
        return ()
    rows: dict[str, list[tuple[str, ...]]] = {}
    for workload, *others in decisions_table(decisions, cells).rows:
        rows.setdefault(str(workload), []).append(tuple(map(str, others)))
    tables = tuple(Table(workload, HEADER[1:], tuple(own)) for workload, own in rows.items())
    terms = f" {_terms(decisions)}" if decisions.decisions else ""
    return (Section(TITLE, f"{cost_text(decisions)}{terms}", tables=tables),)


def cost_text(decisions: Decisions) -> str:
    """``18 of 25 questions were decided by 34 of at most 72 trials; 7 were given up.``"""
    if not decisions.decisions:
        return f"{NO_QUESTION[0].upper()}{NO_QUESTION[1:]}."
    states = Counter(decision.state for decision in decisions.decisions if not decision.compares_nothing)
    empty = len(decisions.decisions) - states.total()
    asked = formatting.counted(len(decisions.decisions), "question")
    were = "was" if len(decisions.decisions) == 1 else "were"
    trials = f"{decisions.trials:,} of at most {decisions.max_trials:,} trials"
    parts = [f"{states['decided']} of {asked} {were} decided by {trials}"]
    for count, verb, what in (
        (states["given_up"], ("was", "were"), "given up"),
        (states["open"], ("is", "are"), "open"),
        (empty, ("had", "had"), "nothing to compare, since cells failed"),
    ):
        if count:
            parts.append(f"{count} {verb[count > 1]} {what}")
    return f"{'; '.join(parts)}."


def have_unequal_trials(decisions: Decisions, cells: Sequence[Cell]) -> bool:
    """Whether a question compares cells of different numbers of trials: its ratio is not that of all of them."""
    trials = {cell.case.key: cell.trials for cell in cells if cell.trials}
    return any(len({trials[key] for key in decision.cells if key in trials}) > 1 for decision in decisions.decisions)


def _terms(decisions: Decisions) -> str:
    rule = decisions.rule
    taken, known = decisions.assumed_noise, formatting.share(decisions.noise or 0.0, 1)
    noise = (
        f"Trials of a cell scatter by {known}, pooled ({decisions.noise_source})"
        if taken is None
        else f"Too few trials tell how much they scatter: {formatting.share(taken)} was assumed"
    )
    return (
        f"Each answer is wrong with a probability of {formatting.share(rule.error)} at most; what differs by less than "
        f"{formatting.share(rule.margin)} is equivalent. A question is given up where {rule.max_rounds} trials of each "
        f"cell are unlikely to decide it. {noise}. The intervals here allow for a look after each round, and miss with "
        f"{formatting.share(rule.error)} at most on either side; those elsewhere on this page are of the trials of "
        "each cell alone, as if their number had been fixed. Others ÷ answer: their throughput as a share of the "
        "answer's. Two cells are compared over the rounds that both were in, so that a ratio may differ from that of "
        "all of their trials elsewhere."
    )


def decisions_table(decisions: Decisions | None, cells: Sequence[Cell]) -> Table:
    """A row for each question, those of a workload together."""
    rows: list[tuple[str, ...]] = []
    if decisions is not None:
        groups = group_cells(cells)
        names = {cell.case.key: cell for group in groups for cell in group.cells}
        workloads = {
            cell.case.key: title
            for title, group in zip(short_titles(groups), groups, strict=True)
            for cell in group.cells
        }
        rows = [
            (
                workloads[decision.cells[-1]],
                _question(decision, names),
                _answer(decision, names),
                _beside(decision, names),
                _trials(decision, names),
            )
            for decision in decisions.decisions
            if all(key in names for key in decision.cells)
        ]
    return Table(TITLE, HEADER, tuple(rows))


def _question(decision: Decision, cells: Mapping[str, Cell]) -> str:
    backend = cells[decision.cells[-1]].labels.backend
    if decision.kind == "fastest":
        return f"the fastest at {formatting.ranks(decision.ranks or 0)}"
    if decision.kind == "peak":
        return f"the peak of {backend}"
    return f"{backend} at {formatting.ranks(decision.ranks or 0)}: efficiency ≥ {formatting.share(EFFICIENCY_BAR)}"


def _name(decision: Decision, key: str, cells: Mapping[str, Cell]) -> str:
    labels = cells[key].labels
    return labels.ranks if decision.kind == "peak" else labels.backend


def _answer(decision: Decision, cells: Mapping[str, Cell]) -> str:
    if decision.answer is None:
        return f"– ({decision.reason or 'no trial gave a number'})"
    if decision.kind == "efficiency":
        text = _efficiency(decision)
    else:
        equal = [rival.key for rival in decision.rivals if rival.word == "equivalent"]
        text = enumerate_names([_name(decision, key, cells) for key in (decision.answer, *equal)])
        text = f"equivalent: {text}" if equal else text
    if decision.state == "decided":
        return f"{text} ({decision.reason})" if decision.reason else text
    state = "given up" if decision.state == "given_up" else "open"
    if decision.reason and not decision.rounds_needed:
        state = f"{state} ({decision.reason})"
    needed = f": about {decision.rounds_needed:,} trials each would decide it" if decision.rounds_needed else ""
    return f"{state}{needed}; most likely {text}"


def _efficiency(decision: Decision) -> str:
    (rival,) = decision.rivals
    side = "at the bar" if rival.word == "equivalent" else "yes" if decision.answer == "above" else "no"
    if rival.ratio is None or rival.low is None or rival.high is None:
        return side
    value, low, high = (EFFICIENCY_BAR * part for part in (rival.ratio, rival.low, rival.high))
    return f"{side}, {formatting.share_with_interval(value, low, high)}"


def _beside(decision: Decision, cells: Mapping[str, Cell]) -> str:
    """``dask: 60 % (56–64 %)`` of the answer's throughput, the closest first."""
    if decision.kind == "efficiency":
        return ""
    rivals = sorted(decision.rivals, key=lambda rival: -(rival.ratio or 0.0))
    return "; ".join(f"{_name(decision, rival.key, cells)}: {_share(rival)}" for rival in rivals)


def _share(rival: Rival) -> str:
    if rival.ratio is None or rival.low is None or rival.high is None:
        return "not compared"
    return formatting.share_with_interval(rival.ratio, rival.low, rival.high)


def _trials(decision: Decision, cells: Mapping[str, Cell]) -> str:
    """The fewest and the most trials with a number among its cells."""
    counts = sorted({cells[key].trials for key in decision.cells})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
