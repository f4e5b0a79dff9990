"""Stored results as data frames and figures: what they hold is what the commands report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing

import pandas
import pytest

import harness
from bench.core.records import RankFailure
from harness.cli.app import main
from harness.errors import StoreError, UsageError
from harness.library.figures import page_figures
from harness.library.frames import frame_of_columns, frame_of_rows
from harness.planning.plan import Skip
from harness.publish.export import read_table
from harness.store import STORE_VARIABLE
from harness.store.opening import open_store
from reports.analysis.answers import workload_answers
from reports.analysis.cells import make_cells
from reports.analysis.findings import analyse_cells
from reports.formats.answer_rows import AnswerRow
from reports.formats.cell_rows import CellRow
from reports.formats.columns import TIME_DTYPE, columns_of, plain_values
from reports.formats.step_rows import StepRow
from reports.formats.sweep_rows import SweepRow
from reports.formats.trial_rows import TrialRow
from reports.page.plotly_charts import axis_titles, plotly_figure
from tests.support.builders import make_case, make_record, make_trial
from tests.support.exports import curve, store_sweep
from tests.support.old_store import SWEEP, restore
from tests.support.pages import figures_of, page_of
from tests.support.paths import ROOT

ROW_TYPES = (SweepRow, AnswerRow, CellRow, TrialRow, StepRow)
NOT_MEASURED = {"ranks_per_node", "same_work_deviation", "same_work_tolerance"}
"""Columns of numbers of a cell whose own description says what a missing value means."""
CAPTURED = {"capture_output": True, "text": True, "check": False}
FAILURE = RankFailure(role="rank 0", rank=0, host="here", error="killed by SIGKILL", at=1.5)


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """A store of November, with a sweep of four cells."""
    return harness.open_store(restore(tmp_path_factory.mktemp("old") / "old.sqlite"))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A sweep with a curve, and cases that failed, were skipped, and ran once."""
    place = tmp_path_factory.mktemp("uneven") / "results.sqlite"
    failed = make_trial(make_case(ranks=8), outcome="failed", reason="rank 0 was killed", ranks=(), failures=(FAILURE,))
    blocks = make_record(step_s=(0.1, 0.2), steps_per_entry=4, last_entry_steps=3, host_step_s=(0.01, 0.02))
    once = make_trial(make_case(backend="single", transport="none", ranks=1), ranks=(blocks,))
    store_sweep(place, [*curve(), failed, once], skips=(Skip(case=make_case(ranks=16), reason="16 cores are missing"),))
    return harness.open_store(place)


def frames(store: harness.ResultsStore):
    """Every frame of a store, by the type of its rows."""
    trials = store.trials()
    ran = trials[trials["round"].notna()]
    return {
        SweepRow: store.sweeps(),
        AnswerRow: store.answers(),
        CellRow: store.cells(),
        TrialRow: trials,
        StepRow: store.steps(ran.iloc[0]),
    }


def cells_of(trials):
    return make_cells(list({trial.case.key: trial.case for trial in trials}.values()), {}, trials, {})


def dtypes(frame):
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def wanted_dtypes(row_type):
    return {column.name: column.frame_dtype for column in columns_of(row_type)}


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_every_column_is_described_with_its_unit(row_type):
    for column in columns_of(row_type):
        assert column.description.endswith("."), column.name
        ends_with = column.name.removesuffix("_low").removesuffix("_high").rpartition("_")[2]
        unit = {"s": "s", "bytes": "B", "share": "1", "efficiency": "1"}.get(ends_with)
        assert column.unit == unit or unit is None, column.name
        assert column.unit or column.dtype != "Float64", column.name


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_a_frame_has_its_columns_and_types_also_without_rows_and_values(row_type, old, uneven):
    empty = frame_of_rows(row_type, [])
    names = [column.name for column in columns_of(row_type)]
    unknown = frame_of_columns(row_type, {name: [None, None] for name in names})
    for frame in (empty, unknown, frames(old)[row_type], frames(uneven)[row_type]):
        assert list(frame.columns) == names
        assert dtypes(frame) == wanted_dtypes(row_type)
        assert frame.attrs["units"] == {column.name: column.unit for column in columns_of(row_type) if column.unit}
    assert len(empty) == 0
    assert unknown.isna().all(axis=None)


def test_a_frame_of_cells_has_what_the_json_document_has(old, capsys, tmp_path):
    assert main(["report", "--store", old.url, "--out", str(tmp_path / "page.html"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    frame = old.cells().set_index("case")
    assert list(frame.index) == [cell["key"] for cell in document["cells"]]
    for cell in document["cells"]:
        row = frame.loc[cell["key"]]
        assert (row["backend"], row["ranks"], row["outcome"], row["trials"]) == (
            *(cell["backend"], cell["ranks"], cell["outcome"], cell["trials"]),
        )
        for column, name in (("throughput", "throughput"), ("step_s", "step"), ("efficiency", "efficiency")):
            for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high")):
                value = row[column + suffix]
                assert (None if value is pandas.NA else value) == cell[name][end]
        assert json.loads(row["readings"] or "{}") == {
            name: found["value"]
            for name, found in {**cell["readings"], **cell["usage"]}.items()
            if found is not None and found["value"] is not None
        }
        if parts := cell["decomposition"]:
            assert row["exposed_s"] == parts["parts_s"]["exposed"]["value"]
            assert row["parallel_efficiency"] == parts["parallel_efficiency"]["value"]


@pytest.mark.parametrize("name", ["old", "uneven"])
def test_a_missing_number_of_a_cell_has_its_reason(name, request):
    frame = request.getfixturevalue(name).cells()
    numbers = [column.name for column in columns_of(CellRow) if column.dtype in ("Float64", "Int64")]
    for _, row in frame.iterrows():
        reasons = json.loads(row["unknown"])
        missing = {number for number in numbers if row[number] is pandas.NA} - NOT_MEASURED
        assert missing == set(reasons)
        assert all(reasons.values())


def test_the_reason_is_the_one_that_the_page_gives(uneven):
    frame = uneven.cells().set_index("ranks")
    reasons = {ranks: json.loads(text) for ranks, text in frame[frame["backend"] == "ddp"]["unknown"].items()}
    assert reasons[8]["throughput"] == reasons[8]["exposed_s"] == frame.loc[8]["reason"]
    assert "rank 0 was killed" in frame.loc[8]["reason"]
    assert reasons[16]["efficiency_low"] == "16 cores are missing"
    once = json.loads(uneven.cells().set_index("backend").loc["single"]["unknown"])
    assert once["step_s_low"] == "a single trial has no interval"


def test_a_frame_of_answers_says_what_the_answers_say(old, uneven):
    for store in (old, uneven):
        answers = workload_answers(analyse_cells(store.read_cells("latest")[1]))
        frame = store.answers()
        assert list(frame["workload"]) == [answer.workload for answer in answers]
        for answer, (_, row) in zip(answers, frame.iterrows(), strict=True):
            assert (row["fastest"], row["trust"]) == (";".join(answer.fastest), answer.trust.word)
            for name, reached in (("efficient_to", answer.efficient_to), ("peak", answer.peak)):
                assert (None if row[name] is pandas.NA else row[name]) == reached.ranks
                assert row[name] is not pandas.NA or row[f"{name}_reason"]
            assert (row["cause"] is pandas.NA) == (answer.cause is None)
            assert row["cause"] is not pandas.NA or row["cause_reason"]
    assert (uneven.answers()["efficient_to"].notna()).any()


def test_rows_of_trials_are_those_of_an_export(old):
    frame, rows = old.trials(SWEEP), read_table(old.url, [SWEEP]).rows
    assert len(frame) == len(rows) > 10
    for (_, found), row in zip(frame.iterrows(), rows, strict=True):
        plain = plain_values(row)
        times = [name for name, dtype in dtypes(frame).items() if dtype == TIME_DTYPE]
        assert [found[name] for name in times] == [pandas.Timestamp(plain.pop(name)) for name in times]
        assert {name: None if found[name] is pandas.NA else found[name] for name in plain} == plain


def test_steps_are_those_of_the_ranks_in_order(uneven):
    trials = uneven.trials()
    two = trials[(trials["backend"] == "ddp") & (trials["ranks"] == 2)].iloc[1]
    with closing(open_store(uneven.url, create=False)) as store:
        trial = store.trial("s1", two["case"], 1)
    frame = uneven.steps(two)
    assert (frame["round"] == 1).all()
    for record in trial.ranks:
        assert tuple(frame[frame["rank"] == record.rank]["step_s"]) == record.step_s
    assert frame["host_step_s"].isna().all()
    assert frame["host_step_reason"].notna().all()


def test_a_block_of_steps_says_how_many_it_stands_for(uneven):
    trials = uneven.trials()
    frame = uneven.steps(trials[trials["backend"] == "single"].iloc[0])
    assert list(frame["steps"]) == [4, 3]
    assert list(frame["host_step_s"]) == [0.01, 0.02]
    assert frame["host_step_reason"].isna().all()


def test_a_trial_is_named_in_several_ways(uneven):
    trials = uneven.trials()
    row = trials.iloc[0]
    named = next(trials.itertuples())
    for trial in (row, row.to_dict(), named, ("s1", row["case"], 0), ("latest", row["case"], 0)):
        pandas.testing.assert_frame_equal(uneven.steps(trial), uneven.steps(row))


def test_a_trial_that_failed_has_no_steps_and_one_that_never_ran_is_no_trial(uneven):
    trials = uneven.trials().set_index("ranks", drop=False)
    assert len(uneven.steps(trials.loc[8])) == 0
    with pytest.raises(UsageError, match=r"it never ran \(16 cores are missing\)"):
        uneven.steps(trials.loc[16])
    with pytest.raises(UsageError, match="has no trial of no-such-case in round 0"):
        uneven.steps(("s1", "no-such-case", 0))
    for wrong in ("s1", 3, None, ("s1", "case"), {"sweep": "s1"}):
        with pytest.raises(UsageError, match=r"expected a row of \.trials\(\)"):
            uneven.steps(wrong)


def test_sweeps_are_listed_with_what_they_ran_on(old):
    frame = old.sweeps()
    assert list(frame["sweep"])[-1] == SWEEP
    assert frame["started_at"].is_monotonic_increasing
    assert str(frame["started_at"].iloc[-1]) == "2026-11-27 04:39:53.920000+00:00"
    assert frame.iloc[-1]["trials"] == len(old.trials(SWEEP)) == frame.iloc[-1]["cases"] * frame.iloc[-1]["rounds"]


def test_a_date_that_is_none_is_missing_with_its_reason(tmp_path):
    store_sweep(tmp_path / "s.sqlite", curve(counts=(1,)), started_at="soon")
    (row,) = harness.open_store(tmp_path / "s.sqlite").sweeps().to_dict("records")
    assert row["started_at"] is pandas.NaT
    assert row["date_problem"] == "dated 'soon', which is no date"


def test_reading_changes_nothing_and_leaves_nothing_open(tmp_path):
    place = tmp_path / "old.sqlite"
    restore(place)
    before = place.read_bytes()
    store = harness.open_store(place)
    frames(store)
    assert place.read_bytes() == before
    assert list(tmp_path.iterdir()) == [place]
    place.unlink()
    with pytest.raises(StoreError, match="no such file"):
        store.sweeps()


def test_wrong_names_are_one_line(tmp_path, old):
    with pytest.raises(harness.HarnessError, match="no such file; run `python -m harness sweep` first") as caught:
        harness.open_store(tmp_path / "none.sqlite")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="has no sweep"):
        old.cells("no-such-sweep")


def test_the_store_is_that_of_the_variable_else_of_the_configuration(tmp_path, old, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scaling.toml").write_text(f"store = {json.dumps(old.url)}")
    (tmp_path / "scaling.toml").chmod(0o600)
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    assert harness.open_store() == old
    (tmp_path / "scaling.toml").write_text("store = 'elsewhere.sqlite'")
    monkeypatch.setenv(STORE_VARIABLE, os.path.relpath(old.url))
    assert harness.open_store().cells().equals(old.cells())


@pytest.mark.slow
def test_a_package_of_the_same_name_in_the_folder_of_a_program_is_named(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("")
    (tmp_path / "program.py").write_text("import harness\nharness.report(loss=1)\nharness.open_store")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], env=os.environ | {"PYTHONPATH": str(ROOT)}, **CAPTURED
    )
    last = done.stderr.splitlines()[-1]
    hiding = tmp_path / "reports" / "__init__.py"
    assert last == f"ImportError: {hiding}: hides the package reports of scaling-harness; rename it, or work elsewhere"


def test_a_password_is_not_shown():
    store = harness.ResultsStore("postgresql+psycopg://team:secret@db/results")
    assert "secret" not in repr(store)
    assert "team" in repr(store)


def test_figures_are_the_drawings_of_the_page(old):
    figures = old.figures()
    drawn = figures_of(page_of(old.read_cells("latest")[1]))
    assert len(figures) == len(drawn) > 8
    assert "synthetic/throughput" in figures
    for figure, plot in zip(drawn, figures.values(), strict=True):
        on_page = json.loads(json.dumps(plotly_figure(figure)))
        shown = plot.to_plotly_json()
        assert plot.layout.title.text.endswith(figure.title)
        assert (plot.layout.xaxis.title.text, plot.layout.yaxis.title.text) == axis_titles(figure)
        assert len(shown["data"]) == len(on_page["data"])
        for trace, other in zip(shown["data"], on_page["data"], strict=True):
            for part in other:
                assert json.loads(json.dumps(trace[part], default=list)) == other[part]


def test_figures_of_sections_with_one_title_have_names_of_their_own():
    cells = cells_of([*curve(), *curve(scaling="weak")])
    names = list(page_figures(cells))
    assert len(names) == len(figures_of(page_of(cells)))
    assert {name.partition("/")[0].partition(" (")[2][:4] for name in names if "throughput" in name} == {"stro", "weak"}


def test_text_of_figures_is_no_markup():
    cells = cells_of(curve(workload="<b>x</b>"))
    figure = next(iter(page_figures(cells).values()))
    assert figure.layout.title.text.startswith("&lt;b&gt;x")


@pytest.mark.slow
def test_importing_the_package_loads_nothing_else():
    program = """
import sys
import harness
ours = {name for name in sys.modules if name.partition(".")[0] in ("bench", "reports", "harness", "pydantic")}
assert ours == {"harness"}, ours
assert {"open_store", "report"} <= set(dir(harness))
harness.open_store
heavy = {"pandas", "numpy", "scipy", "plotly", "torch"} & set(sys.modules)
assert not heavy, heavy
try:
    harness.no_such_name
except AttributeError as problem:
    assert "no_such_name" in str(problem)
else:
    raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, **CAPTURED)
    assert done.returncode == 0, done.stderr
