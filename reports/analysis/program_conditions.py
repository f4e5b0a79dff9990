"""What a user's program did that its number should be read with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.core.case import Case
from bench.core.records import Condition, RankRecord
from reports.analysis.rank_resources import count


def program_conditions(case: Case, ranks: Sequence[RankRecord]) -> Iterator[Condition]:
    """The conditions that the ranks of a program set themselves, each named at the first rank with it (pure).

    Args:
        case: The case of a trial.
        ranks: The records of its ranks.
    """
    runs = [(record, record.program) for record in ranks if record.program is not None]
    for record, _ in runs:
        if record.threads not in (None, case.threads):
            seen = f"rank {record.rank} computed with {count(record.threads, 'thread')}, planned {case.threads}"
            yield Condition(name="own_threads", seen=seen)
            break
    for record, run in runs:
        if run.exit_problem is not None:
            yield Condition(name="had_to_be_ended", seen=f"rank {record.rank}: {run.exit_problem}")
            break
    if case.ranks > 1 and runs and all(run.joined is False for _, run in runs):
        yield Condition(name="ranks_apart", seen="no rank has joined the others")
