"""What is analysed of a sweep with hundreds of curves."""

from __future__ import annotations

from reports.analysis.findings import MAX_PREDICTED, analyse_cells
from reports.analysis.predictions import PredictOptions
from tests.support.large_sweep import many_workloads


def test_of_many_curves_the_first_are_predicted_unless_rank_counts_are_asked_for():
    cells = many_workloads(MAX_PREDICTED // 6 + 2)
    findings = analyse_cells(cells)
    assert len(findings.curves) > len(findings.curve_predictions) == MAX_PREDICTED
    assert [found.curve for found in findings.curve_predictions] == list(findings.curves)[:MAX_PREDICTED]
    assert findings.unpredicted_reason == (
        f"the first 100 of {len(findings.curves)} curves are predicted: name rank counts (--predict)"
    )
    every = analyse_cells(cells, PredictOptions(counts=(4,)))
    assert len(every.curve_predictions) == len(every.curves)
    assert every.unpredicted_reason is None
