"""The pause before the warm-up: random, the same on all ranks, and only where the energy of GPUs is read."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.plugins.backend import Session
from bench.rank.random_pause import MAX_PAUSE_S, pause
from tests.support.builders import make_case


@pytest.mark.parametrize("changes", [{"device": "cpu"}, {"device": "cuda", "telemetry": "off"}])
def test_ranks_that_read_no_energy_of_gpus_do_not_pause(changes):
    slept = []
    assert pause(make_case(ranks=1, **changes), Session(0, 1), sleep=slept.append) == 0
    assert slept == []


@pytest.mark.frameworks
def test_all_ranks_pause_as_long_as_rank_0_drew():
    from tests.support.thread_ranks import ThreadGroup, ThreadSession

    case, ranks = make_case(ranks=3, device="cuda"), range(3)

    def lengths():
        group, slept = ThreadGroup(case.ranks), [[] for _ in ranks]
        with ThreadPoolExecutor(case.ranks) as pool:
            returned = list(
                pool.map(lambda rank: pause(case, ThreadSession(rank, group), sleep=slept[rank].append), ranks)
            )
        assert [[length] for length in returned] == slept
        assert len(set(returned)) == 1
        return returned[0]

    drawn = [lengths() for _ in range(20)]
    assert len(set(drawn)) == len(drawn)
    assert 0 <= min(drawn) < MAX_PAUSE_S / 2 < max(drawn) <= MAX_PAUSE_S
