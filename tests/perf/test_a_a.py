"""The same case swept twice: do the intervals overlap, as those of one and the same number should?"""

from __future__ import annotations

from bench.core.case import Case
from reports.analysis.stats import Estimate, estimate, intervals_disjoint
from tests.perf.conftest import spread, throughput

TRIES, TRIALS = 20, 5
GOAL = 19
CASE = Case(
    workload="synthetic",
    backend="ddp",
    transport="gloo",
    ranks=2,
    batch=128,
    window_s=0.5,
    decompose=False,
    own_cost=False,
)


def test_a_case_beside_itself(benchmark, tell):
    rates: list[tuple[list[float], list[float]]] = []

    def sweep() -> list[float]:
        return [throughput(CASE) for _ in range(TRIALS)]

    benchmark.pedantic(lambda: rates.append((sweep(), sweep())), rounds=TRIES, iterations=1)
    pairs: list[tuple[Estimate, Estimate]] = [(estimate(a, "samples/s"), estimate(b, "samples/s")) for a, b in rates]
    overlapping = sum(intervals_disjoint(first, second) is False for first, second in pairs)
    benchmark.extra_info |= {"rates": rates, "overlapping": overlapping}
    tell(
        f"{overlapping} of {TRIES} pairs of 95 % intervals overlap; goal {GOAL} or more; second ÷ first: median "
        f"{spread([second.value / first.value for first, second in pairs], 'pairs')}"
    )
