from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from bench.core.case import Case
from bench.core.completeness import inconsistency
from bench.core.records import RankRecord
from tests.support.builders import make_case, make_record


def test_a_changed_copy_of_a_case_has_keys_of_its_own():
    case = make_case(ranks=2)
    before, as_json = case.model_copy(), case.model_dump_json()
    assert case.key.endswith("ranks=2")
    assert case == before
    assert case.model_dump_json() == as_json
    for deep in (False, True):
        copied = case.model_copy(update={"ranks": 4, "batch": 16}, deep=deep)
        assert copied.key == make_case(ranks=4, batch=16).key
        assert copied.curve == make_case(ranks=4, batch=16).curve


def test_key_names_what_the_case_is_and_not_how_long_it_is_measured():
    case = make_case(workload_options={"model": "cnn"}, backend_options={"bucket_cap_mb": 1})
    assert case.key == ("synthetic[model=cnn]/ddp-gloo[bucket_cap_mb=1]/strong/batch=8/threads=1/cpu/seed=0/ranks=2")
    assert case.model_copy(update={"window_s": 9.0, "timeout_s": 1.0, "flags": ("x",)}).key == case.key
    assert make_case(ranks=4).curve == make_case(ranks=2).curve
    assert make_case(seed=1).curve != make_case(seed=0).curve


def test_option_order_does_not_change_the_key():
    one = make_case(workload_options={"a": 1, "b": 2})
    other = make_case(workload_options={"b": 2, "a": 1})
    assert one.key == other.key


def test_a_net_is_part_of_the_key_only_where_there_is_one():
    assert make_case(net="1gbit").curve == f"{make_case().curve}/net=1gbit"
    assert make_case(net="1gbit").curve != make_case(net="100mbit").curve


@pytest.mark.parametrize(("scaling", "whole", "each"), [("strong", 8, 4), ("weak", 16, 8)])
def test_batch_is_global_when_strong_and_per_rank_when_weak(scaling, whole, each):
    case = make_case(scaling=scaling)
    assert (case.global_batch, case.local_batch) == (whole, each)


def test_values_are_frozen_and_strict():
    case = make_case()
    with pytest.raises(ValidationError, match="frozen"):
        case.ranks = 3
    with pytest.raises(ValidationError, match="no_such"):
        Case(**case.model_dump(), no_such=1)


def test_a_record_survives_json_with_a_loss_that_is_not_a_number():
    record = make_record()
    diverged = record.model_copy(update={"proof": record.proof.model_copy(update={"losses": (math.nan, math.inf)})})
    back = RankRecord.model_validate_json(diverged.model_dump_json())
    assert math.isnan(back.proof.losses[0])
    assert back.proof.losses[1] == math.inf


def test_an_entry_may_stand_for_several_steps():
    record = make_record(step_s=(0.5, 0.25, 0.125), steps_per_entry=4, last_entry_steps=2, host_step_s=(0.25, 0.0, 0.5))
    assert record.steps == 10
    assert record.measured_s == 4 * 0.5 + 4 * 0.25 + 2 * 0.125
    assert record.mean_step_s == pytest.approx(0.325)
    assert record.mean_host_step_s == pytest.approx(0.2)
    assert RankRecord.model_validate_json(record.model_dump_json()) == record


def test_without_blocks_every_entry_is_a_step():
    record = make_record(step_s=(0.5, 0.25))
    assert (record.steps, record.measured_s, record.mean_host_step_s) == (2, 0.75, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"host_step_s": (0.1,)}, "different lengths"),
        ({"steps_per_entry": 2, "last_entry_steps": 2}, "not below"),
        ({"last_entry_steps": 1}, "not below"),
        ({"steps_per_entry": 0}, "greater than or equal to 1"),
        ({"steps_per_entry": 2**40}, "less than or equal to 1000000"),
    ],
)
def test_entries_that_do_not_fit_are_refused(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        make_record(step_s=(0.5, 0.25), **changes)


def test_ranks_of_other_blocks_do_not_belong_together():
    blocks = {"steps_per_entry": 2}
    records = [make_record(0, 2, (0.1, 0.1), **blocks), make_record(1, 2, (0.1,) * 4)]
    assert inconsistency(records, 2) == "the ranks timed blocks of different numbers of steps"
    records[1] = make_record(1, 2, (0.1, 0.1), **blocks, last_entry_steps=1)
    assert inconsistency(records, 2) == "the ranks measured different numbers of steps"
