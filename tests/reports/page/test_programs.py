"""What a page, a terminal, JSON and exports say of users' own programs."""

from __future__ import annotations

import pytest

from bench.core.program import Program
from bench.core.records import Reading
from bench.core.step_measures import PhaseTimes
from harness.reporting.json_document import cell_as_json
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.analysis.predictions import PredictOptions
from reports.analysis.program_runs import NOT_WHOLE
from reports.formats.terminal import finding_tables
from reports.formats.trial_rows import SweepFacts, rows_of
from reports.page.sweep_page import make_page
from tests.support.builders import make_case, make_program_record, make_run, make_trial

PROGRAM = Program(script="train.py", folder="/p", working_directory="/p", digest="d", files={"train.py": ""})
OWN_S = 0.05


def cells_and_trials(counts=(1, 2, 4), reason=None, **run):
    """Trials of a program that is decomposed as one of Horovod: no forward pass can be told."""
    trials = []
    for ranks in counts:
        case = make_case(
            workload="script", backend="horovodrun", transport="any", ranks=ranks, batch=1, program=PROGRAM
        )
        for number in range(3):
            step_s = 0.1 / ranks + 0.01 * (ranks > 1) + number / 1e4
            phases = PhaseTimes(
                together_s=(step_s, step_s),
                alone_s={"backward": (OWN_S / ranks,), "optimizer": (0.001,)},
                digest="equal",
                alone_step_s=(0.09 / ranks,) if ranks > 1 else None,
            )
            records = tuple(
                make_program_record(
                    rank,
                    ranks,
                    (step_s, step_s),
                    program=make_run(**run),
                    phases=None if reason else phases,
                    phases_reason=reason,
                    readings=(Reading(name="watching", value=0.002, unit="1"),),
                )
                for rank in range(ranks)
            )
            trials.append(make_trial(case, number, ranks=records))
    return make_cells([trials[3 * n].case for n in range(len(counts))], {}, trials, {}), trials


def page_of(cells):
    return make_page("report", analyse_cells(cells, PredictOptions(counts=(16,))), [], [])


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({}, "samples counted by the DataLoader"),
        ({"loaders": 2}, "samples counted by 2 DataLoaders"),
        ({"counted": "given"}, "samples given by --samples-per-step"),
        ({"counted": "printed", "printed": (80.0,)}, "samples printed by the program (of all ranks together)"),
        ({"counted": "printed", "printed_scope": "rank"}, "samples printed by the program (of each rank)"),
    ],
)
def test_the_page_says_how_samples_were_counted(run, words):
    cells, _ = cells_and_trials((1,), **run)
    assert page_of(cells).table("Programs").rows[0][1] == words


@pytest.mark.parametrize(
    ("run", "marks", "end"),
    [
        ({}, "its optimizer", "stopped after its window"),
        ({"optimizers": 2}, "the first of its 2 optimizers", "stopped after its window"),
        (
            {"steps_from": "output", "optimizers": None, "ended": "by itself", "exit_status": 0},
            "each printed value",
            "by itself, exit status 0",
        ),
        ({"exit_problem": "it went on"}, "its optimizer", "stopped after its window; it went on"),
    ],
)
def test_it_says_what_a_step_is_and_how_the_program_ended(run, marks, end):
    cells, _ = cells_and_trials((1,), **run)
    assert page_of(cells).table("Programs").rows[0][2:] == (marks, end, "0.2 % (0.2–0.2 %)")


def test_a_run_to_the_end_is_on_the_page_in_the_terminal_in_json_and_in_exports():
    run = {"whole": True, "ended": "by itself", "exit_status": 0, "wall_s": 20.0, "stepping_s": 15.0}
    cells, trials = cells_and_trials((1, 2), **run, checkpoint_s=2.0, checkpoints=4, evaluation_s=1.0)
    row = page_of(cells).table("Programs from start to end").rows[1]
    assert row[1] == "20.0 (20.0–20.0) s"
    assert row[3:5] == ("20", "2.00 (2.00–2.00) s in 4")
    assert row[6].startswith("75 %")
    assert len(finding_tables(analyse_cells(cells))) == 1
    assert cell_as_json(cells[0])["program"]["whole"]["goodput"]["value"] == 0.75
    facts = SweepFacts.model_construct(id="s", started_at="", commit=None, changed_files=None, environment="e")
    facts = facts.model_copy(update={"host": "h", "cpu": "c", "cores": 2, "gpus": ()})
    exported = next(rows_of(facts, cells, trials))
    assert (exported.work_counted, exported.time_to_end_s, exported.goodput) == ("DataLoader", 20.0, 0.75)
    assert (exported.checkpoint_pauses_s, exported.evaluation_s) == (2.0, 1.0)


def test_a_stopped_program_has_no_run_to_the_end_and_says_why():
    cells, _ = cells_and_trials((1,))
    program = cell_as_json(cells[0])["program"]
    assert program["whole"] is None
    assert program["whole_reason"] == NOT_WHOLE
    assert finding_tables(analyse_cells(cells)) == []


def test_parts_that_a_program_does_not_show_are_unknown_and_its_limit_is_found():
    cells, _ = cells_and_trials()
    last = cells[-1].decomposition
    assert "forward" not in last.parts_s
    assert "data" not in last.parts_s
    assert sum(part.value for part in last.parts_s.values()) == pytest.approx(last.step_s.value)
    findings = analyse_cells(cells)
    limit = findings.bottlenecks[0]
    assert "communication" in limit.limited_by
    assert sum(limit.shares.values()) == pytest.approx(1)
    row = next(row for row in page_of(cells).table("Where the time of a step goes").rows if "4 ranks" in row[0])
    assert row[1:3] == ("–", "–")


def test_steps_that_are_not_observed_say_why_and_the_laws_and_predictions_stand():
    cells, _ = cells_and_trials(reason="the program has a communication hook of its own")
    page = page_of(cells)
    assert "not measured: the program has a communication hook of its own" in str(
        page.table("Where the time of a step goes")
    )
    assert "can't be split" not in str(page)
    assert "no model is trained" not in str(page)


def test_other_work_has_no_table_of_programs():
    case = make_case(ranks=1)
    cells = make_cells([case], {}, [make_trial(case)], {})
    assert cells[0].program is None
    with pytest.raises(KeyError):
        page_of(cells).table("Programs")
