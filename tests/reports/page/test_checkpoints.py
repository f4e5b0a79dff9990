"""The table of checkpoints, and the same readings in JSON, in the terminal and in exported rows."""

from __future__ import annotations

import pytest

from bench.core.records import CHECKPOINT_READINGS, Reading
from harness.reporting.json_document import cell_as_json
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.formats.terminal import finding_tables
from reports.formats.trial_rows import SweepFacts, rows_of
from reports.page.checkpoints import CHECKPOINTS_TITLE, checkpoint_table
from tests.support.builders import make_case, make_record, make_trial
from tests.support.pages import page_of

VALUES = (0.25, 2.5, 0.5, 1e8, 2e8)
MEASURED = tuple(
    Reading(name=name, value=value, unit=unit)
    for (name, unit), value in zip(CHECKPOINT_READINGS.items(), VALUES, strict=True)
)
WHY = "these ranks form no group"
UNKNOWN = tuple(Reading(name=name, value=None, unit=unit, reason=WHY) for name, unit in CHECKPOINT_READINGS.items())


def trial_of(case, readings):
    ranks = tuple(make_record(rank, case.ranks, readings=readings) for rank in range(case.ranks))
    return make_trial(case, ranks=ranks)


@pytest.fixture
def trials():
    blocking = make_case(ranks=2, workload_options={"checkpoint": "blocking"})
    distributed = make_case(ranks=2, backend="horovod", workload_options={"checkpoint": "distributed"})
    own = Reading(name="cycles", value=3.0, unit="1")
    return [trial_of(blocking, (own, *MEASURED)), trial_of(distributed, UNKNOWN), trial_of(make_case(), ())]


@pytest.fixture
def cells(trials):
    return make_cells([trial.case for trial in trials], {}, trials, {})


def test_the_page_has_a_row_for_each_cell_that_measured_it(cells):
    page = page_of(cells)
    (section,) = [section for section in page.sections if section.title == CHECKPOINTS_TITLE]
    (table,) = section.tables
    assert [row[0] for row in table.rows] == [
        f"synthetic · {backend}/gloo · 2 ranks · strong" for backend in ("ddp", "horovod")
    ]
    assert [row[1:] for row in table.rows] == [
        ("blocking", "250 ms", "2.50 s/GB", "500 ms", "100 MB", "200 MB/s"),
        ("distributed", f"unknown: {WHY}", *["–"] * 4),
    ]
    (further,) = [section for section in page.sections if section.title == "Further readings"]
    assert [row[1] for row in further.tables[0].rows] == ["cycles"]


@pytest.mark.parametrize(
    ("readings", "shown"),
    [
        (UNKNOWN[1:2], (f"unknown: {WHY}", "–", "–", "–", "–")),
        (MEASURED[3:4], ("–", "–", "–", "100 MB", "–")),
    ],
)
def test_a_record_that_lacks_some_of_the_readings_has_a_whole_row(readings, shown):
    case = make_case(ranks=2, workload_options={"checkpoint": "blocking"})
    cells = make_cells([case], {}, [trial_of(case, readings)], {})
    assert checkpoint_table(cells).rows[0][2:] == shown


def test_json_has_the_values_or_the_reason(cells):
    measured, unknown, other = map(cell_as_json, cells)
    assert measured["readings"]["checkpoint_stall"]["value"] == 0.25
    assert measured["reading_reasons"] == {}
    assert unknown["readings"] == dict.fromkeys(CHECKPOINT_READINGS)
    assert unknown["reading_reasons"] == dict.fromkeys(CHECKPOINT_READINGS, WHY)
    assert other["readings"] == {}


def test_exported_rows_have_the_values_or_the_reason(cells, trials):
    facts = dict.fromkeys(SweepFacts.model_fields) | {
        "id": "s1",
        **dict.fromkeys(("started_at", "environment", "host", "system", "cpu", "python"), "x"),
        "cores": 2,
        "memory_bytes": 1,
        "gpus": (),
        "packages": {},
    }
    measured, unknown, other = rows_of(SweepFacts(**facts), cells, trials)
    assert (measured.checkpoint_stall_s, measured.checkpoint_write_s, measured.checkpoint_bytes) == (0.25, 0.5, 10**8)
    assert unknown.checkpoint_stall_s is None
    assert unknown.unknown["checkpoint_stall_s"] == WHY
    assert other.checkpoint_bytes is None
    assert "checkpoint_bytes" not in other.unknown


def test_the_terminal_shows_the_table(cells):
    titles = [str(table.title) for table in finding_tables(analyse_cells(cells)) if hasattr(table, "title")]
    assert any(CHECKPOINTS_TITLE in title for title in titles)
