"""What it means for cells and answers that a sweep went on until its questions were decided.

A cell that no open question involved has few trials because no more were asked for: it is ``settled``. An answer is
trusted by what was decided of it, where that of a fixed number of rounds is trusted by the intervals of its cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import formatting
from reports.analysis.cells import Cell
from reports.analysis.decisions import Decision, Decisions, Rival
from reports.analysis.flags import remedy
from reports.analysis.trust import Trust, trust_in

FEW_TRIALS, SETTLED = "few_trials", "settled"
MORE_TRIALS = "raise --max-repeats"


def with_settled_flags(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells of a sweep that has ended, those of few trials flagged as settled (pure)."""
    return tuple(
        cell.model_copy(update={"flags": tuple(SETTLED if flag == FEW_TRIALS else flag for flag in cell.flags)})
        if cell.outcome == "ok" and FEW_TRIALS in cell.flags
        else cell
        for cell in cells
    )


def trust_by_decisions(cells: Sequence[Cell], decisions: Decisions | None) -> Trust:
    """The trust in an answer that is drawn from these cells (pure); ``None``: the number of rounds was fixed."""
    keys = {cell.case.key for cell in cells}
    if decisions is None:
        return trust_in(cells)
    asked = [
        decision for decision in decisions.decisions if keys & set(decision.cells) and not decision.compares_nothing
    ]
    if not asked:
        trust = trust_in(cells)
        # More repeats would change nothing: no question needs them.
        return trust.model_copy(update={"remedy": remedy(SETTLED)}) if trust.remedy == remedy(FEW_TRIALS) else trust
    undecided = sum(decision.state != "decided" for decision in asked)
    questions = formatting.counted(len(asked), "question")
    if undecided:
        reason = f"{undecided} of {questions} not decided"
        return trust_in(cells, Trust(word="limited", reason=reason, remedy=MORE_TRIALS))
    error = formatting.share(decisions.rule.error)
    return trust_in(cells, Trust(word="high", reason=f"{questions} decided, each with an error of {error} at most"))


def tied_by_decisions(best: Cell, others: Sequence[Cell], decisions: Decisions | None) -> list[Cell] | None:
    """The others that may be as fast as the best cell, by the question that compared them (pure).

    Returns:
        ``None`` where no question compared all of them with this cell as the answer.
    """
    rivals: dict[str, Rival] = {}
    for decision in decisions.decisions if decisions else ():
        if _compares(decision, best):
            rivals |= {rival.key: rival for rival in decision.rivals}
    if any(cell.case.key not in rivals for cell in others):
        return None
    return [cell for cell in others if rivals[cell.case.key].word != "slower"]


def _compares(decision: Decision, best: Cell) -> bool:
    return decision.kind == "fastest" and decision.answer == best.case.key
