from __future__ import annotations

import math

import pytest

from bench.core.records import PhaseTimes
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
    assert "deviate by 1 " in verdict.reason


def test_losses_are_averaged_over_the_ranks_before_they_are_compared():
    assert judge_same_work(ranks(rank0={"losses": (1.5, 0.5)}, rank1={"losses": (0.5, 0.5)})).verdict == "same"
    assert judge_same_work(ranks(rank1={"losses": (1.5, 0.5)})).deviation == pytest.approx(0.25)


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


def test_no_prefix_is_no_proof():
    assert judge_same_work([make_record(0, 1, proof=None)]).verdict == "unproven"
