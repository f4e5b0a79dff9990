from __future__ import annotations

import math

import pytest

from bench.core.step_measures import PhaseTimes
from reports.analysis.same_work import interleave, judge_same_work
from tests.support.builders import make_proof, make_record


def ranks(world=2, **by_rank):
    """Records of ranks that agree, but for the changes given as ``rank0={…}``."""
    return [
        make_record(rank, world, proof=make_proof(rank, world, **by_rank.get(f"rank{rank}", {})))
        for rank in range(world)
    ]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_with_the_work_of_the_reference(world):
    verdict = judge_same_work(ranks(world))
    assert (verdict.verdict, verdict.reason) == ("same", None)
    assert verdict.deviation == 1e-7


def test_samples_are_interleaved():
    assert interleave([(0, 2, 4), (1, 3)]) == (0, 1, 2, 3, 4)


def test_a_rank_with_the_shard_of_another():
    verdict = judge_same_work(ranks(rank1={"samples": ((0, 2), (4, 6))}))
    assert verdict.verdict == "different"
    assert "step 0" in verdict.reason
    assert "2 of 4 missing" in verdict.reason


def test_the_right_samples_in_another_order():
    assert judge_same_work(ranks(rank1={"samples": ((3, 1), (5, 7))})).verdict == "different"


def test_parameters_beyond_the_tolerance():
    reference = make_proof(0, 2).reference.model_copy(update={"deviation": 1.0})
    verdict = judge_same_work(ranks(rank0={"reference": reference}))
    assert verdict.verdict == "different"
    assert "parameters: deviates by 1 " in verdict.reason


def test_losses_are_averaged_over_the_ranks_before_they_are_compared():
    assert judge_same_work(ranks(rank0={"losses": (1.5, 0.5)}, rank1={"losses": (0.5, 0.5)})).verdict == "same"
    assert judge_same_work(ranks(rank1={"losses": (1.5, 0.5)})).deviation == pytest.approx(0.2)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_nan_loss_is_never_the_same_work(loss):
    assert judge_same_work(ranks(rank1={"losses": (loss, 0.5)})).verdict == "different"


def test_ranks_with_different_parameters():
    assert "rank 1 has different parameters" in judge_same_work(ranks(rank1={"digest": "other"})).reason
    drifted = ranks()
    drifted[1] = drifted[1].model_copy(update={"final_digest": "other"})
    assert judge_same_work(drifted).reason.startswith("at the end rank 1")


def test_ranks_that_differ_after_the_decomposition():
    phases = [PhaseTimes(together_s=(0.1,), alone_s={}, digest=digest) for digest in ("a", "b")]
    apart = [record.model_copy(update={"phases": found}) for record, found in zip(ranks(), phases, strict=True)]
    assert judge_same_work(apart).reason.startswith("after the decomposition rank 1")


def reference_with(**changes):
    return make_proof(0, 2).reference.model_copy(update=changes)


def test_the_quantity_that_exceeds_its_own_tolerance_most_is_named():
    """bfloat16 rounds the gradient's 2e-2 away; the loss has a tolerance of its own."""
    found = reference_with(deviation=2e-2, tolerance=3e-2, quantity="gradient of w in step 1", rounding=1e-2)
    verdict = judge_same_work(ranks(rank0={"reference": found}))
    assert (verdict.verdict, verdict.quantity, verdict.rounding) == ("same", "gradient of w in step 1", 1e-2)
    assert (verdict.deviation, verdict.tolerance) == (2e-2, 3e-2)
    verdict = judge_same_work(ranks(rank0={"reference": found, "losses": (1.01, 0.5)}))
    assert verdict.quantity == "loss of step 0"
    assert verdict.reason == "loss of step 0: deviates by 0.005 from a single process, above the tolerance of 0.001"


def test_losses_around_zero_are_compared_by_their_size():
    found = reference_with(losses=(1e-9, 0.5))
    assert judge_same_work(
        ranks(rank0={"reference": found, "losses": (1, 0.5)}, rank1={"losses": (-1, 0.5)})
    ).verdict == ("same")


def test_a_start_from_other_parameters():
    start = {"start_digest": "s"}
    assert judge_same_work(ranks(rank0={**start, "reference": reference_with(**start)}, rank1=start)).verdict == "same"
    verdict = judge_same_work(ranks(rank0={**start, "reference": reference_with(**start)}, rank1={"start_digest": "t"}))
    assert verdict.reason == "before the first step rank 1 has different parameters or buffers from rank 0"
    verdict = judge_same_work(ranks(rank0={**start, "reference": reference_with(start_digest="t")}, rank1=start))
    assert verdict.reason.startswith("before the first step the ranks have other parameters or buffers than a single")


def test_a_random_model_is_unproven_unless_the_ranks_differ():
    found = reference_with(deviation=0.5, random="the model is random")
    verdict = judge_same_work(ranks(rank0={"reference": found}))
    assert (verdict.verdict, verdict.deviation, verdict.reason) == ("unproven", None, "the model is random")
    verdict = judge_same_work(ranks(rank0={"reference": found}, rank1={"digest": "other"}))
    assert verdict.verdict == "different"


def test_samples_that_depend_on_each_other_are_named_before_what_follows():
    found = reference_with(deviation=0.5, coupled="its samples are not independent")
    assert judge_same_work(ranks(rank0={"reference": found})).reason == "its samples are not independent"


def test_what_the_comparison_left_out_is_part_of_the_label():
    found = reference_with(arithmetic="bfloat16", evaluation_mode=True)
    assert judge_same_work(ranks(rank0={"reference": found})).label == "float32, rounding of bfloat16, without dropout"


def test_no_prefix_is_no_proof():
    assert judge_same_work([make_record(0, 1, proof=None)]).verdict == "unproven"
