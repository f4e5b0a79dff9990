"""Which cores a rank gets."""

from __future__ import annotations

import os

import pytest

from bench.host.resources import cores_of_rank, usable_core_count, usable_cores


@pytest.mark.parametrize(
    ("rank", "threads", "usable", "cores"),
    [
        (0, 1, (0, 1), (0,)),
        (1, 1, (0, 1), (1,)),
        (2, 1, (0, 1), (0,)),
        (1, 2, (4, 5, 6, 7), (6, 7)),
        (1, 3, (0, 1, 2, 3), (0, 1, 3)),
        (0, 8, (0, 1), (0, 1)),
    ],
)
def test_each_rank_gets_as_many_cores_as_it_has_threads(rank, threads, usable, cores):
    assert cores_of_rank(rank, threads, usable) == cores


def test_usable_cores_are_those_of_the_affinity_mask():
    assert set(usable_cores()) == os.sched_getaffinity(0)
    assert usable_core_count() == len(usable_cores())
