from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.records import PhaseTimes
from reports.analysis.step_times import find_straggler, split_step
from tests.support.builders import make_record

PARTS = ("data", "forward", "backward", "optimizer")
seconds = st.floats(1e-5, 10)


def record(rank, world, together, alone):
    phases = PhaseTimes(together_s=together, alone_s=dict(zip(PARTS, alone, strict=True)), digest="d")
    return make_record(rank, world, phases=phases)


@given(st.lists(st.tuples(seconds, st.tuples(seconds, seconds, seconds, seconds)), min_size=1, max_size=6))
def test_the_parts_add_up_and_the_shares_multiply(ranks):
    records = [
        record(number, len(ranks), (together, together * 2), tuple((part, part * 3) for part in alone))
        for number, (together, alone) in enumerate(ranks)
    ]
    found = split_step(records)
    parts = found.data_s + found.forward_s + found.backward_s + found.optimizer_s + found.waiting_s + found.exposed_s
    assert parts == pytest.approx(found.step_s, rel=1e-12, abs=1e-12)
    mean = sum(found.own_s) / len(found.own_s)
    assert found.parallel_efficiency == pytest.approx(mean / found.step_s, rel=1e-12)
    assert 0 < found.load_balance <= 1 + 1e-12


def test_by_hand():
    records = [
        record(0, 2, (0.10, 0.12), ((0.01,), (0.02,), (0.04,), (0.01,))),
        record(1, 2, (0.11, 0.10), ((0.01,), (0.02,), (0.02,), (0.01,))),
    ]
    found = split_step(records)
    assert found.step_s == pytest.approx(0.11), "as long as on the slowest rank; who was late may catch up"
    assert found.own_s == pytest.approx((0.08, 0.06))
    assert found.waiting_s == pytest.approx(0.01)
    assert found.exposed_s == pytest.approx(0.03)
    assert found.load_balance == pytest.approx(0.875)
    assert found.communication_efficiency == pytest.approx(0.08 / 0.11)


def test_a_straggler_is_named_with_its_delay():
    found = find_straggler((0.01, 0.21, 0.011, 0.01))
    assert found.rank == 1
    assert found.delay_s == pytest.approx(0.2)
    assert find_straggler((0.010, 0.011)) is None
    assert find_straggler((0.5,)) is None
    assert find_straggler((1e-5, 9e-5)) is None, "less than a millisecond is no straggler"


def test_a_rank_without_times_is_no_split():
    assert split_step([make_record(0, 1)]) is None
