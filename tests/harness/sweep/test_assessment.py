"""What a trial's records amount to."""

from __future__ import annotations

import pytest

from bench.core.records import RankRecord
from bench.core.same_work import NotFinite
from bench.host.machine import read_node_facts
from harness.sites.base.contract import TrialResult
from harness.sites.base.remote import UnstartedJob
from harness.sites.base.running_trial import RunningTrial
from harness.sweep.assessment import assess_result, assess_trial, other_sources, reported_sources
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


HERE, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("ranks", "node", "digest", "problem"),
    [
        ((HERE, HERE), HERE, HERE, None),
        ((None, None), None, None, None),  # nodes of an older version do not say
        ((), None, HERE, None),
        ((HERE, OTHER), HERE, None, f"rank 1 on here ran other sources ({OTHER}) than this command's ({HERE}): "),
        ((), OTHER, HERE, f"node 3 (n3) ran other sources ({OTHER}) than this command's ({HERE}): "),
    ],
)
def test_a_node_with_other_sources_is_named_with_both_digests(ranks, node, digest, problem):
    records = tuple(make_record(rank, len(ranks), sources=sources) for rank, sources in enumerate(ranks))
    facts = read_node_facts(3).model_copy(update={"host": "n3", "sources": node})
    result = TrialResult("ok", None, records, (), (), nodes=(facts,))
    assert reported_sources(result, HERE) == digest
    found = other_sources(result, HERE)
    assert found == problem if problem is None else found.startswith(problem)


def test_a_trial_of_other_sources_has_failed_whatever_it_measured(tmp_path):
    result = TrialResult("failed", "no such field", (make_record(sources=OTHER),), (), ())
    running = RunningTrial(UnstartedJob(""), tmp_path, "2026-01-01T00:00:00+00:00", 0.0)
    trial = assess_trial(running, result, make_case(ranks=1), 0, "e")
    assert trial.outcome == "failed"
    assert trial.reason.startswith(f"rank 0 on here ran other sources ({OTHER})")
    assert trial.reason.endswith("; no such field")
    assert trial.sources == OTHER
