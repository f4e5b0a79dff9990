"""An index over many sweeps, from real stores: order, gaps, what may be compared, and what is written again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from bench.core.case import Fault
from harness.cli.app import main
from harness.planning.plan import Plan, Skip
from harness.planning.suite import Suite
from harness.publish.index import write_index
from harness.store.opening import open_store
from harness.store.store import SweepInfo
from reports.formats.documents import schema_version
from reports.page.plotly_charts import plotly_figure
from tests.support.builders import make_case, make_trial
from tests.support.stored_once import this_environment

HERE = this_environment()
ONE, TWO = make_case(ranks=1), make_case(ranks=2)
STEADY = (0.99, 1.0, 1.01)


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "r.sqlite")


def sweep(place, day, step_s, *, skipped=(), failed=(), finished=True, environment=HERE, variables=None):
    """A stored sweep that began on that day of January 2026, of three trials a case; ``step_s`` by case key."""
    name, began = f"night-{day:02}", f"2026-01-{day:02}T03:00:00.000+00:00"
    cases = {case.key: case for case in (ONE, TWO, SLOWED)}
    store = open_store(place, create=True)
    plan = Plan(
        cases=tuple(cases[key] for key in (*step_s, *failed)),
        skips=tuple(Skip(case=cases[key], reason="not built: build it") for key in skipped),
        not_applicable=(),
        repeats=3,
    )
    store.begin_sweep(
        SweepInfo(
            id=name,
            started_at=began,
            command="python -m harness sweep",
            suite=Suite(name="nightly"),
            plan=plan,
            environment=environment,
        )
    )
    for key, time_s in step_s.items():
        for number, noise in enumerate(STEADY):
            trial = make_trial(cases[key], number, time_s * noise)
            ranks = tuple(rank.model_copy(update={"variables": variables}) for rank in trial.ranks)
            store.add_trial(name, trial.model_copy(update={"ranks": ranks}))
    for key in failed:
        store.add_trial(name, make_trial(cases[key], outcome="failed", reason="rank 1 was killed", ranks=()))
    if finished:
        store.finish_sweep(name, began.replace("03:00", "04:00"))
    store.close()
    return name


SLOWED = make_case(ranks=2, fault=Fault(kind="slow", rank=1, ms=5), flags=("injected",))
BOTH = {ONE.key: 0.1, TWO.key: 0.06}


def index(place, *wanted):
    return write_index(wanted, place, Path(place).parent / "nights")


def figure(indexed, title):
    figures = [one for section in indexed.page.sections for one in section.figures]
    return next(one for one in figures if one.title.startswith(title))


def test_every_link_leads_to_a_report_and_the_newest_comes_first(place):
    names = [sweep(place, day, BOTH) for day in (3, 1, 2)]
    found = index(place)
    assert found.sweeps == tuple(sorted(names))
    rows = found.page.table("Reports").rows
    assert [row[0].text for row in rows] == ["night-03", "night-02", "night-01"]
    assert rows[0][1] == "2026-01-03 03:00"
    links = re.findall(r'<a href="([^"#]+)"', found.path.read_text())
    assert {row[0].href for row in rows} <= set(links)
    assert all((found.path.parent / link).is_file() for link in links)
    assert "synthetic: ddp at 1–2 ranks" in (found.path.parent / links[0]).read_text()


def test_what_changed_most_is_said_with_its_interval(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, BOTH)
    sweep(place, 3, {ONE.key: 0.1, TWO.key: 0.12})
    last, first, caveat = index(place).page.answers
    assert last.startswith("The last two comparable sweeps (01-02 → 01-03): of 2 cells 1 slower, 1 statistically tied.")
    assert re.search(
        r"Largest change: synthetic · ddp/gloo · 2 ranks · strong, 2\.00× slower \(1\.9\d–2\.0\d×\)\.", last
    )
    assert first.startswith("The first and the last (01-01 → 01-03)")
    assert "give no verdict" in caveat


def test_what_all_sweeps_have_in_common_is_said_once(place):
    sweep(place, 1, BOTH)
    alone = index(place).page.table("Reports")
    assert alone.rows[0][2] == "nightly"
    sweep(place, 2, BOTH)
    sweep(place, 3, BOTH, environment=HERE.model_copy(update={"commit": "other"}))
    reports = index(place).page.table("Reports")
    assert reports.header == ("report", "began", "commit", "cells")
    machine = alone.rows[0][alone.header.index("machine")]
    assert reports.note.startswith(f"All sweeps: suite nightly; machine {machine}; overhead (95 %) not measured. ")
    assert alone.note in reports.note


def test_no_change_is_claimed_where_the_interval_holds_1(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, {ONE.key: 0.1001, TWO.key: 0.06})
    page = index(place).page
    answer, _ = page.answers
    assert page.table("Throughput now").header == ("cell", "throughput (95 %)", "01-01 → 01-02")
    assert "of 2 cells 2 statistically tied. Largest difference: synthetic · ddp/gloo · 1 rank" in answer


def test_one_sweep_has_nothing_to_be_compared_with(place):
    sweep(place, 1, BOTH)
    assert index(place).page.answers == ("No comparison: there is one sweep.",)


def test_another_machine_is_marked_and_never_compared(place):
    other = HERE.model_copy(update={"host": "elsewhere", "packages": {**HERE.packages, "torch": "1.0"}})
    sweep(place, 1, BOTH)
    sweep(place, 2, dict.fromkeys(BOTH, 9.0), environment=other)
    sweep(place, 3, BOTH)
    found = index(place)
    assert "(01-01 → 01-03): of 2 cells 2 statistically tied" in found.page.answers[0]
    notes = [row[-1] for row in found.page.table("Reports").rows]
    assert notes[0] == notes[2] == "–"
    assert f"not comparable with 01-03: host elsewhere, not {HERE.host}; torch 1.0" in notes[1]
    trend = figure(found, "Throughput")
    assert trend.series[0].hollow == (False, True, False)
    assert "Hollow" in trend.caption
    assert found.page.warnings == ()


def test_a_night_with_another_variable_is_marked_and_never_compared(place):
    sweep(place, 1, BOTH, variables={})
    sweep(place, 2, dict.fromkeys(BOTH, 9.0), variables={"NCCL_DEBUG": "TRACE"})
    sweep(place, 3, BOTH, variables={})
    found = index(place)
    assert "(01-01 → 01-03)" in found.page.answers[0]
    notes = [row[-1] for row in found.page.table("Reports").rows]
    assert "not comparable with 01-03: variable NCCL_DEBUG TRACE, not none" in notes[1]


def test_another_commit_is_what_nights_are_compared_for(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, BOTH, environment=HERE.model_copy(update={"commit": "other", "changed_files": True}))
    found = index(place)
    assert found.page.answers[0].startswith("The last two comparable sweeps (01-01 → 01-02)")
    reports = found.page.table("Reports")
    assert reports.rows[0][reports.header.index("commit")] == "other with changed files"


def test_a_newest_sweep_that_stands_alone_is_a_warning(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, BOTH)
    sweep(place, 3, BOTH, environment=HERE.model_copy(update={"host": "elsewhere"}))
    found = index(place)
    assert "(01-01 → 01-02)" in found.page.answers[0]
    assert found.page.warnings[0].startswith("Newest sweep (01-03): not comparable with 01-02: host elsewhere")


def test_a_missing_cell_is_a_gap_with_its_reason(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, {ONE.key: 0.1}, failed=[TWO.key])
    sweep(place, 3, {ONE.key: 0.1}, skipped=[TWO.key])
    sweep(place, 4, BOTH)
    sweep(place, 5, {ONE.key: 0.1}, failed=[TWO.key])
    found = index(place)
    trend = figure(found, "Throughput at each")
    assert [series.name for series in trend.series] == ["ddp/gloo, 2 ranks"], "a failure last night moves no curve"
    assert trend.categories == ("01-01", "01-02", "01-03", "01-04", "01-05")
    assert trend.series[0].x == (0.0, 3.0)
    drawn = plotly_figure(trend)["data"][0]
    assert [y is None for y in drawn["y"]] == [False, True, True, False], "the line breaks"
    assert [row[1] == "–" for row in trend.table.rows] == [True, False, True, True, False]
    rows = {row[1]: row for row in found.page.table("Cells that failed").rows}
    assert rows["failed"][2:] == ("1 of 1 trials: rank 1 was killed", "01-05, 01-02")
    assert rows["skipped"][2:] == ("not built: build it", "01-03")
    assert "1 cell failed or invalid" in found.page.warnings[0]


def test_the_largest_rank_count_comes_first_and_the_others_are_folded(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, BOTH)
    page = index(place).page
    shown = [(section.folded, [one.title for one in section.figures]) for section in page.sections if section.figures]
    assert shown == [
        (False, ["Throughput at each backend's most ranks", "Efficiency at each backend's most ranks"]),
        (True, ["Throughput at 1 rank"]),
    ]


def test_one_rank_count_says_nothing_of_scaling_and_one_night_draws_no_curve(place):
    sweep(place, 1, {TWO.key: 0.06})
    (section,) = [section for section in index(place).page.sections if section.figures]
    assert section.subtitle == "global batch 8 · 1 thread per rank · cpu"
    (bars,) = section.figures
    assert (bars.title, bars.bars, bars.x_title) == ("Throughput at 2 ranks", True, "sweep 01-01")
    sweep(place, 2, {TWO.key: 0.06})
    (curve,) = [one for section in index(place).page.sections for one in section.figures]
    assert (curve.bars, curve.x_title, curve.categories) == (False, "sweep", ("01-01", "01-02"))


def test_a_fault_on_purpose_is_no_part_of_a_trend(place):
    for day in (1, 2):
        sweep(place, day, {**BOTH, SLOWED.key: 5.0})
    found = index(place)
    assert "of 2 cells" in found.page.answers[0]
    assert max(len(series.x) for series in figure(found, "Throughput").series) == 2


def test_two_sweeps_of_one_day_are_told_apart(place):
    sweep(place, 1, BOTH)
    store = open_store(place, create=True)
    again = store.sweep("night-01").model_copy(update={"id": "again", "started_at": "2026-01-01T21:00:00.000+00:00"})
    store.begin_sweep(again)
    store.add_trial("again", make_trial(ONE))
    store.finish_sweep("again", "2026-01-01T22:00:00+00:00")
    store.close()
    sweep(place, 2, BOTH)
    assert figure(index(place), "Throughput").categories == ("01-01 03:00", "01-01 21:00", "01-02")


def test_an_unfinished_sweep_is_left_out_unless_it_is_named(place):
    sweep(place, 1, BOTH)
    sweep(place, 2, {ONE.key: 0.1}, finished=False)
    found = index(place)
    assert found.sweeps == ("night-01",)
    assert found.page.warnings == ("Left out as unfinished: night-02; name them to include them.",)
    found = index(place, "latest", "night-01", "night-02")
    assert found.sweeps == ("night-01", "night-02")
    assert found.page.table("Reports").rows[0][-1] == "not finished"


def test_reports_that_are_there_are_kept(place):
    sweep(place, 1, BOTH)
    first = index(place)
    kept = first.path.parent / "night-01.html"
    written = kept.stat()
    sweep(place, 2, BOTH)
    second = index(place)
    assert (first.written, second.written) == (("night-01",), ("night-02",))
    assert os.path.samestat(kept.stat(), written)
    os.utime(kept, (0, 0))
    assert index(place).written == ("night-01",), "it was written before the sweep had finished"


def test_the_same_store_gives_the_same_bytes(place):
    for day in (1, 2, 3):
        sweep(place, day, BOTH)
    before = index(place).path.read_bytes()
    assert index(place).path.read_bytes() == before
    assert write_index((), place, Path(place).parent / "elsewhere").path.read_bytes() == before


def said_wrong(capfd, *arguments):
    assert main(["report", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_what_can_t_be_done_is_one_line(place, tmp_path, capfd):
    open_store(place, create=True).close()
    nights = str(tmp_path / "nights")
    assert "holds no finished sweep; run `python -m" in said_wrong(capfd, "--index", nights, "--store", place)
    assert not Path(nights).exists()
    sweep(place, 1, BOTH)
    sweep(place, 2, BOTH)
    assert "cannot be written" in said_wrong(capfd, "--index", place, "--store", place)
    assert "cannot be written" in said_wrong(capfd, "--index", "/proc/nights", "--store", place)
    assert "no sweep 'night-1'" in said_wrong(capfd, "night-1", "--index", nights, "--store", place)
    assert "leave one of them out" in said_wrong(capfd, "--index", nights, "--out", "a.html", "--store", place)
    assert "--price-per-hour, --co2 and --target apply" in said_wrong(capfd, "--index", nights, "--co2", "400")


def test_the_command_says_what_it_wrote(place, tmp_path, capfd):
    sweep(place, 1, BOTH)
    assert main(["report", "--index", str(tmp_path / "n"), "--store", place, "--json"]) == 0
    report = str(tmp_path / "n" / "night-01.html")
    assert json.loads(capfd.readouterr().out) == {
        "schema": "scaling-harness/index/1",
        "schema_version": schema_version("index"),
        "index": str(tmp_path / "n" / "index.html"),
        "sweeps": [{"sweep": "night-01", "report": report, "written": True}],
    }
    assert main(["report", "--index", str(tmp_path / "n"), "--store", place]) == 0
    assert "reports: 0 written, 1 kept" in capfd.readouterr().out
