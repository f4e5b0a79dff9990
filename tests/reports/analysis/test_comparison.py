"""Two sweeps side by side: changes with their intervals, and ties."""

from __future__ import annotations

import pytest

from harness.publish.comparison import join_provenance
from reports.analysis.cells import make_cells
from reports.analysis.comparison import compare, labelled
from reports.analysis.findings import analyse_cells
from reports.page.comparison_section import comparison_sentence, sections
from reports.page.html import render
from reports.page.palette import backend_style
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_trial


def cells(step_s, spread=0.001, missing=(), **changes):
    cases = [make_case(ranks=ranks, **changes) for ranks in (1, 2)]
    trials = [
        make_trial(case, number, step_s / case.ranks * (1 + spread * number))
        for case in cases
        if case.ranks not in missing
        for number in range(3)
    ]
    return make_cells(cases, {}, trials, {})


def test_a_slowdown_is_told_with_its_interval():
    found = compare("A", cells(0.1), "B", cells(0.11))
    assert [change.direction for change in found.changes] == ["slower", "slower"]
    change = found.changes[0].ratio
    assert change.value == pytest.approx(1 / 1.1, rel=1e-6)
    assert change.low < 1 / 1.1 < change.high
    output = comparison_sentence(found)
    assert output.startswith("B against A: slower in 2 of 2 cells (synthetic · ddp/gloo · 1 rank · strong -9.1 % (")


def test_differences_within_noise_are_statistically_tied():
    found = compare("A", cells(0.1, spread=0.2), "B", cells(0.101, spread=0.2))
    assert {change.direction for change in found.changes} == {"unclear"}
    assert comparison_sentence(found) == "B against A: statistically tied in 2."


def test_a_missing_cell_is_named_and_not_passed_over():
    found = compare("A", cells(0.1), "B", cells(0.1, missing=(2,)))
    assert found.changes[1].ratio is None
    assert found.changes[1].reason == "the later is skipped: the sweep ended before its first trial"
    assert comparison_sentence(found).endswith("1 can't be compared.")


def test_backends_are_compared_where_sweeps_ran_one_each():
    found = compare("A", cells(0.1), "B", cells(0.05, backend="horovod"))
    assert found.across
    assert [change.direction for change in found.changes] == ["faster", "faster"]
    later = labelled(cells(0.05, backend="horovod"), "B")
    (section,) = sections([found], {cell.case.key: backend_style(1) for cell in later})
    assert section.tables[0].rows[0][1] == "horovod/gloo against ddp/gloo"
    (figure,) = section.figures
    assert [(series.name, series.style) for series in figure.series] == [("horovod/gloo", backend_style(1))]


def test_sweeps_without_common_cases_are_shown_side_by_side():
    found = compare("A", cells(0.1), "B", cells(0.1, batch=64))
    assert comparison_sentence(found) == "B and A have no case in common; they are shown side by side."
    assert (found.only_first, found.only_other) == (2, 2)


def test_both_sweeps_stand_in_one_figure():
    first, other = cells(0.1), cells(0.11)
    comparison = compare("A", first, "B", other)
    every = [*labelled(first, "A"), *labelled(other, "B")]
    rows = join_provenance([[("machine", "one"), ("python", "3.11")], [("machine", "two"), ("python", "3.11")]])
    page = make_page("two", analyse_cells(every), [], rows, comparisons=[comparison])
    assert page.answers[0].startswith("B against A: slower")
    ratio, throughput = [figure for shown in page.sections for figure in shown.figures][:2]
    assert (ratio.title, ratio.ideal, ratio.ideal_name) == ("B ÷ A: synthetic · strong", "one", "no change")
    (line,) = ratio.series
    assert line.x == (1, 2)
    assert line.y == pytest.approx((1 / 1.1, 1 / 1.1))
    assert all(low < y < high for low, y, high in zip(line.low, line.y, line.high, strict=True))
    assert line.style == throughput.series[1].style, "what changed looks as the later sweep does"
    assert [series.name for series in throughput.series] == ["ddp/gloo · A", "ddp/gloo · B"]
    assert len({series.style for series in throughput.series}) == 2
    # Each has its own baseline: the efficiency of B is not that of B against A.
    row = next(row for row in page.table("All cells").rows if row[1:3] == ("ddp/gloo · B", "1"))
    assert row[7].startswith("baseline")
    assert page.table("Provenance").note == "They differ in: machine."
    html = render(page)
    assert "B against A</caption>" in html
    assert "Provenance</caption>" in html
    assert "ddp/gloo · A" in html
    assert "ddp/gloo · B" in html
