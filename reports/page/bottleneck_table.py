"""What limits each curve, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis import formatting
from reports.analysis.bottleneck import (
    COMPUTE,
    DATA,
    EXPOSED,
    NOT_MEASURED,
    TERM_TITLES,
    UNATTRIBUTED,
    WAITING,
    Bottleneck,
)
from reports.page.elements import Table


def bottleneck_table(bottlenecks: Sequence[Bottleneck], *, scaling: bool = True) -> Table:
    """One row for each curve: what limits it, with the shares of a step.

    Args:
        bottlenecks: of the curves.
        scaling: whether any has several rank counts; else the table is of what limits a step, without blank columns.
    """
    rows = tuple(
        (
            bottleneck.labels.curve
            if scaling
            else bottleneck.labels.curve.removesuffix(f" · {bottleneck.case.scaling}"),
            bottleneck.labels.ranks,
            TERM_TITLES.get(bottleneck.limited_by, bottleneck.limited_by),
            *(_share(bottleneck.shares.get(term)) for term in (COMPUTE, DATA, UNATTRIBUTED, WAITING, EXPOSED)),
            _share(bottleneck.slower),
            _share(bottleneck.host_bound),
            "–" if bottleneck.most_speedup is None else f"{formatting.number(bottleneck.most_speedup)} ×",
            _share(bottleneck.contention),
            _share(bottleneck.coherency),
            "; ".join(
                [*bottleneck.conditions, *([f"{NOT_MEASURED}: {bottleneck.reason}"] if bottleneck.reason else ())]
            )
            or "–",
        )
        for bottleneck in bottlenecks
    )
    header = (
        "curve",
        "at",
        "limited by",
        "compute",
        "data",
        "unattributed",
        "load imbalance",
        "exposed communication",
        "compute slower than at the fewest ranks",
        "launch-bound",
        "throughput if it were not, at most",
        "contention σ",
        "coherency κ",
        "conditions",
    )
    note = (
        "Compute, data, what a step does beyond its parts (unattributed), load imbalance (waiting for the slowest "
        "rank) and exposed communication add up to a step. "
        "Slower: compute beyond what the same work takes at the smallest rank count, as a share of the "
        "step. Launch-bound: the part of compute in which a GPU waits for launches by the host. "
        "Contention and coherency are the shares of σ(N−1) and κN(N−1) in the denominator of the fitted law: "
        "another view of the same losses, not a further part."
    )
    if scaling:
        return Table("What limits scaling", header, rows, note)
    filled = [number for number in range(len(header)) if any(row[number] != "–" for row in rows)]
    return Table("What limits a step", header, rows, STEP_NOTE).with_columns(filled)


STEP_NOTE = (
    "Compute, data, what a step does beyond its parts (unattributed), load imbalance (waiting for the slowest rank) "
    "and exposed communication add up to a step, where they were measured. Launch-bound: the part of "
    "compute in which a GPU waits for launches by the host."
)


def _share(share: float | None) -> str:
    return "–" if share is None else formatting.share(share)
