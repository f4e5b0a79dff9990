"""The peak of a CPU is measured once for the trials of a command, and again where it can't be right or one lacks it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bench.core.step_measures import DevicePeak, StepWork
from bench.plugins.backend import Session
from bench.rank.kept_peaks import KEPT, device_peak, exceeds
from tests.support.builders import make_case
from tests.support.thread_ranks import ThreadGroup, ThreadSession

CASE = make_case(ranks=2, threads=1)
WORK = StepWork(flops=2e6, bytes_moved=1e6, dtypes=("float32",))
needs_torch = pytest.mark.frameworks


class SingleRank(Session):
    def largest(self, value):
        return value


def take(folder, case=CASE, session=None, work=WORK, step_s=1.0):
    return device_peak(case, session or SingleRank(), "float32", work, step_s, folder)


def test_a_step_that_is_faster_than_a_peak_disproves_it():
    peak = DevicePeak(flop_s=1e9, bytes_s=1e9, how="")
    assert not exceeds(WORK, 0.01, peak)
    assert exceeds(WORK, 0.001, peak)
    assert exceeds(WORK.model_copy(update={"executed_flops": 2e7}), 0.01, peak)
    assert not exceeds(None, 0.001, peak)


@needs_torch
def test_later_trials_of_as_many_ranks_take_the_peak_of_the_first(tmp_path):
    first = take(tmp_path)
    again = take(tmp_path, CASE.model_copy(update={"backend": "single", "batch": 7, "seed": 3}))
    assert again == first.model_copy(update={"how": first.how + KEPT})
    # Of fewer ranks, or more threads, it is another one.
    for change in ({"ranks": 1}, {"threads": 2}, {"env": {"OMP_WAIT_POLICY": "active"}}):
        assert KEPT not in take(tmp_path, CASE.model_copy(update=change)).how
    assert KEPT not in take(None).how


@needs_torch
def test_a_peak_that_steps_exceed_is_measured_again(tmp_path):
    first = take(tmp_path)
    faster = StepWork(flops=2 * first.flop_s, bytes_moved=1, dtypes=("float32",))
    assert KEPT not in take(tmp_path, work=faster, step_s=1.0).how
    assert KEPT in take(tmp_path).how


@needs_torch
def test_all_ranks_measure_where_one_has_kept_none(tmp_path):
    def of_both() -> list[bool]:
        group = ThreadGroup(2)
        with ThreadPoolExecutor(2) as pool:
            peaks = list(pool.map(lambda rank: take(tmp_path, session=ThreadSession(rank, group)), range(2)))
        return [KEPT in peak.how for peak in peaks]

    assert of_both() == [False, False]
    assert of_both() == [True, True]
    next(tmp_path.glob("peak-1-*")).write_text("{")
    assert of_both() == [False, False]
