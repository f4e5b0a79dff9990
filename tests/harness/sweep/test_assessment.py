"""What a trial's records amount to."""

from __future__ import annotations

import pytest

from bench.core.records import NotFinite, RankRecord
from harness.sites.base.contract import TrialResult
from harness.sweep.assessment import assess_result
from reports.analysis.cells import make_cells
from tests.support.builders import make_case, make_proof, make_record, make_trial

LATE = NotFinite(name="loss", value="inf", step=15, where="measured step 7")
EARLY = NotFinite(name="loss", value="nan", step=12, where="measured step 4")
PARAMETER = NotFinite(name="parameter", value="nan")


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ((EARLY, None), "rank 0: loss is nan from step 12 on (measured step 4)"),
        ((LATE, EARLY), "rank 1: loss is nan from step 12 on (measured step 4)"),
        ((PARAMETER, LATE), "rank 1: loss is inf from step 15 on (measured step 7)"),
        ((PARAMETER, PARAMETER), "rank 0: a parameter is nan after the measured window"),
    ],
)
def test_a_trial_whose_loss_stopped_being_a_number_is_no_result(found, reason):
    case = make_case(ranks=2)
    records = tuple(make_record(rank, 2, not_finite=one) for rank, one in enumerate(found))
    outcome, why, proof = assess_result(TrialResult("ok", None, records, (), ()), case)
    assert (outcome, why, proof) == ("failed", reason, None)
    trial = make_trial(case, outcome=outcome, reason=why, ranks=records)
    (cell,) = make_cells([case], {}, [trial], {})
    assert (cell.outcome, cell.throughput) == ("failed", None)
    assert reason in cell.reason


def test_it_is_named_before_other_work_is():
    """The losses of a rank that are NaN differ from the reference's too."""
    proofs = [make_proof(rank, 2, losses=(float("nan"), float("nan"))) for rank in range(2)]
    records = tuple(make_record(rank, 2, proof=proof, not_finite=EARLY) for rank, proof in enumerate(proofs))
    assert assess_result(TrialResult("ok", None, records, (), ()), make_case(ranks=2))[0] == "failed"


def test_records_from_before_it_was_looked_at_are_read():
    record = make_record()
    assert RankRecord.model_validate_json(record.model_dump_json(exclude={"not_finite"})) == record
