"""The answers of a sweep in words, the same on its page, in the terminal and in its summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reports.analysis import formatting
from reports.analysis.answers import HOST_LAUNCHES, ONE_RANK_COUNT, PROGRAM_DATA, WorkloadAnswer
from reports.analysis.bottleneck import DATA, EXPOSED, SLOWER, TERM_TITLES, WAITING
from reports.analysis.cells import Cell
from reports.analysis.scaling_reach import EFFICIENCY_BAR, RanksReached
from reports.analysis.titles import enumerate_names

BAR_TEXT = formatting.share(EFFICIENCY_BAR)
NO_NUMBER = "no cell has a number"
MAX_STEPS = 3
MORE_RANKS = "measure more rank counts (--ranks) to see where scaling ends"
ACTIONS: Mapping[str, str] = {
    TERM_TITLES[EXPOSED]: "exchange less, or hide it: a larger --batch, --set ddp.bucket_cap_mb, faster links",
    TERM_TITLES[WAITING]: "find the slowest rank under Where the time goes, and what its cores or its data lack",
    TERM_TITLES[SLOWER]: "give each rank cores and memory bandwidth of its own, or compare with --scaling weak",
    HOST_LAUNCHES: "a larger --batch, or cuda_graph=true where the workload has it",
    "contention": "decompose steps (decompose = true in a suite) to see what the ranks share",
    "coherency": "use the rank count of the peak, or decompose steps (decompose = true in a suite)",
}
"""What to try against each cause of lost efficiency."""
PROGRAM_ACTIONS: Mapping[str, str] = {
    **ACTIONS,
    TERM_TITLES[EXPOSED]: "exchange less, or hide it: larger batches or gradient accumulation, faster links",
    TERM_TITLES[SLOWER]: "give each rank cores and memory bandwidth of its own",
    HOST_LAUNCHES: "larger batches, torch.compile or CUDA graphs in the program",
}
"""The same for a program of the user's own, which takes no options of workloads and backends."""
FETCH_FASTER = "fetch data faster: more DataLoader workers, data on a faster disk or prepared in advance"


def fastest_text(answer: WorkloadAnswer) -> str:
    """``ddp/gloo at 2 ranks``; ``statistically tied: single and ddp/gloo at 1 rank``."""
    if not answer.fastest:
        return answer.fastest_reason or NO_NUMBER
    if len(set(answer.fastest_ranks)) == 1:
        names = f"{enumerate_names(answer.fastest)} at {formatting.ranks(answer.fastest_ranks[0])}"
    else:
        pairs = zip(answer.fastest, answer.fastest_ranks, strict=True)
        names = enumerate_names([f"{name} at {formatting.ranks(ranks)}" for name, ranks in pairs])
    return f"statistically tied: {names}" if len(answer.fastest) > 1 else names


def efficient_to_text(answer: WorkloadAnswer) -> str:
    """``4 ranks``, ``≥ 8 ranks``, ``ddp/gloo: 1 rank`` where another backend is the fastest, ``unknown``."""
    return f"{_whose(answer)}{answer.efficient_to.ranks_text}"


def efficient_to_detail(answer: WorkloadAnswer) -> str:
    """``78 % (76–80), 59 % (58–60) at 8 ranks``; the reason where it is unknown."""
    reached = answer.efficient_to
    if reached.ranks is None or reached.at_least:
        return _with_reason("" if reached.value is None else formatting.percent(reached.value), reached)
    here = f"{formatting.percent(reached.value)}, " if reached.value is not None and reached.ranks > 1 else ""
    predicted = " (predicted)" if reached.next_source == "predicted" else ""
    beyond = f"{formatting.percent(reached.next_value)} at {formatting.ranks(reached.next_ranks or 0)}{predicted}"
    return _with_reason(f"{here}{beyond}", reached)


def _with_reason(text: str, reached: RanksReached) -> str:
    return "; ".join(filter(None, (text, reached.reason)))


def peak_text(answer: WorkloadAnswer) -> str:
    """``8 ranks``, ``32 ranks (predicted)``, ``unknown``."""
    return f"{_whose(answer)}{answer.peak.ranks_text}"


def peak_detail(answer: WorkloadAnswer) -> str:
    """``412 (400–424) samples/s``; a reason that the efficiency does not give already."""
    reason = None if answer.peak.reason == answer.efficient_to.reason else answer.peak.reason
    value = formatting.estimate(answer.peak.value) if answer.peak.value is not None else ""
    return "; ".join(filter(None, (value, reason)))


def _whose(answer: WorkloadAnswer) -> str:
    # Of several that are tied, "scales to 4 ranks" would not say which.
    return "" if answer.scaled is None or answer.fastest == (answer.scaled,) else f"{answer.scaled}: "


def why_text(answer: WorkloadAnswer) -> str:
    """``exposed communication takes 46 % of a step of ddp/gloo at 8 ranks``; without a cause its reason."""
    text = answer.cause.sentence if answer.cause is not None else answer.cause_reason or "unknown"
    return "; ".join(filter(None, (text, data_text(answer))))


def data_text(answer: WorkloadAnswer) -> str:
    """``fetching data takes 72 % of it``; empty where something else takes more of a step."""
    return "" if answer.data_share is None else f"{DATA} takes {formatting.share(answer.data_share)} of it"


def trust_text(answer: WorkloadAnswer) -> str:
    """``limited: noisy host: other processes used its cores``"""
    return f"{answer.trust.word}: {answer.trust.reason}"


def answer_sentence(answer: WorkloadAnswer) -> str:
    """The whole answer of a workload in one line of text."""
    if not answer.fastest:
        return f"{answer.workload}: {answer.fastest_reason}."
    throughput = formatting.estimate(answer.fastest_throughput)
    kind = "" if len(answer.fastest) > 1 else "fastest: "
    uncertain = f" ({answer.fastest_reason})" if answer.fastest_reason else ""
    parts = [f"{kind}{fastest_text(answer)}, {throughput}{uncertain}"]
    if answer.efficient_to.ranks is not None:
        detail = efficient_to_detail(answer)
        parts.append(f"efficiency ≥ {BAR_TEXT} to {efficient_to_text(answer)}{f' ({detail})' if detail else ''}")
    if answer.peak.ranks is not None:
        parts.append(f"throughput peaks at {answer.peak.ranks_text}")
    if answer.cause is not None or answer.cause_reason != ONE_RANK_COUNT:
        parts.append(why_text(answer))
    parts.append(f"trust {trust_text(answer)}")
    return f"{answer.workload}: {'; '.join(dict.fromkeys(parts))}."


def next_steps(answers: Sequence[WorkloadAnswer], cells: Sequence[Cell]) -> list[str]:
    """What to do next, the most urgent first: mend what failed, measure what is unsure, change what limits."""
    steps: dict[str, list[str]] = {}
    bad = [cell for cell in cells if cell.outcome not in ("ok", "skipped")]
    if bad:
        steps[f"see why {formatting.counted(len(bad), 'cell')} failed, under Failed and skipped, and run again"] = []
    wanted = (
        *((answer, answer.trust.remedy) for answer in answers if answer.trust.word == "low"),
        *((answer, FETCH_FASTER) for answer in answers if answer.data_share is not None),
        *((answer, _actions(answer).get(answer.cause.name, "")) for answer in answers if answer.cause is not None),
        *((answer, MORE_RANKS) for answer in answers if answer.efficient_to.at_least),
        *((answer, answer.trust.remedy) for answer in answers if answer.trust.word == "limited"),
    )
    for answer, step in wanted:
        if step:
            steps.setdefault(step, []).append(answer.workload)
    texts = [step if len(of) in (0, len(answers)) else f"{step} ({_whom(of)})" for step, of in steps.items()]
    return texts[:MAX_STEPS] or ["nothing has to be done"]


def _actions(answer: WorkloadAnswer) -> Mapping[str, str]:
    return PROGRAM_ACTIONS if answer.data == PROGRAM_DATA else ACTIONS


def _whom(workloads: Sequence[str]) -> str:
    return enumerate_names(workloads) if len(workloads) <= MAX_STEPS else formatting.counted(len(workloads), "workload")


def outcome_text(cells: Sequence[Cell]) -> str:
    """``22 of 24 cells ok, 1 failed, 1 skipped``; ``all 24 cells ok: nothing failed or was skipped``."""
    counts = {name: sum(cell.outcome == name for cell in cells) for name in ("failed", "timeout", "invalid", "skipped")}
    bad = [f"{count:,} {name}" for name, count in counts.items() if count]
    good = len(cells) - sum(counts.values())
    if not cells:
        return "nothing was planned"
    if not bad:
        return f"{formatting.counted(good, 'cell')}, all ok: nothing failed or was skipped"
    return f"{good:,} of {formatting.counted(len(cells), 'cell')} ok, {', '.join(bad)}"
