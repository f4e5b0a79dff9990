"""Why each curve stops scaling, as a sentence and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from reports.analysis.losses import EXPOSED, WAITING
from reports.page import words
from reports.page.values import Table
from reports.why import COMPUTE, DATA, Bottleneck


def bottleneck_table(bottlenecks: Sequence[Bottleneck]) -> Table:
    rows = tuple(
        (
            f"{words.workload_title(bottleneck.case)} · {words.backend_title(bottleneck.case)} · {bottleneck.case.scaling}",
            words.ranks_on_nodes(bottleneck.case),
            bottleneck.limited_by,
            *(_share(bottleneck.shares.get(term)) for term in (COMPUTE, DATA, WAITING, EXPOSED)),
            _share(bottleneck.slower),
            _share(bottleneck.contention),
            _share(bottleneck.coherency),
            "; ".join(bottleneck.conditions) or "–",
        )
        for bottleneck in bottlenecks
    )
    header = (
        "curve",
        "at",
        "limited by",
        "compute",
        "data",
        "load imbalance",
        "exposed communication",
        "compute slower than at the fewest",
        "contention σ",
        "coherency κ",
        "what else slowed it",
    )
    note = (
        "Compute, data, load imbalance (waiting for the slowest rank) and exposed communication add up to a step. "
        "Slower: compute beyond what the same work takes at the smallest rank count, as a share of the "
        "step. Contention and coherency are shares of the time by the fitted law, σ(N−1) and κN(N−1) of its "
        "denominator: the law's own view of the same losses, not a further part."
    )
    return Table("Why it stops scaling", header, rows, note)


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
