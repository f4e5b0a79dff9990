"""What commands print with ``--json`` fits the schemas in the repository, and these fit the code."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import harness
from bench.core.records import Link, RankFailure
from harness.check.calibration import CalibrationReport
from harness.cli.app import main
from harness.cli.json_schemas import schema_text
from harness.cli.output import print_json
from harness.cli.schema_changes import digest_of
from harness.planning.plan import Skip
from harness.publish.export import read_table
from harness.reporting.json_document import as_json
from harness.store.opening import open_store
from reports.analysis.findings import analyse_cells
from reports.formats.columns import plain_values
from reports.formats.documents import FOLDER, VERSIONS, schema_file, schema_name, schema_version, schema_versions
from reports.formats.verdict.json_document import verdict_document
from reports.regression.calibration import assurance_of, calibrate, synthetic_suite
from reports.regression.rule import RULE
from reports.regression.synthetic_histories import NOISE_MODELS
from tests.support import judgements
from tests.support.builders import make_case, make_trial
from tests.support.exports import curve, store_sweep
from tests.support.nights import CASES, write_nights
from tests.support.node_sweeps import placed
from tests.support.old_store import SWEEP, restore

FAILURES = (RankFailure(role="rank 0", rank=0, host="here", error="killed by SIGKILL", at=1.5),)
BENCHMARK = {
    "machine_info": {"node": "here"},
    "commit_info": {"id": "abc"},
    "datetime": "2026-11-20T03:00:00+00:00",
    "benchmarks": [{"fullname": "suites/test_micro.py::test_read", "stats": {"data": [0.5], "median": 0.5}}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stores and files that the commands below read."""
    folder = tmp_path_factory.mktemp("documents")
    restore(folder / "old.sqlite")
    failed = make_trial(
        make_case(ranks=8), 0, outcome="failed", reason="rank 0 was killed", ranks=(), failures=FAILURES
    )
    skipped = Skip(case=make_case(ranks=16), reason="16 ranks need 16 cores")
    store_sweep(folder / "sweep.sqlite", [*curve(), failed], skips=(skipped,))
    write_nights(folder / "nights.sqlite", 12)
    write_nights(folder / "nights.sqlite", 1, first=13, slower={4: 1.3}, cases=CASES[1:], skips=CASES[:1])
    (folder / "bench.json").write_text(json.dumps(BENCHMARK))
    (folder / "rates.csv").write_text("ranks,throughput\n1,10\n2,19\n4,35\n8,60\n,\n")
    (folder / "history.csv").write_text("night,benchmark,run,sample,seconds\n1,a,0,0,0.5\n")
    (folder / "current.csv").write_text("night,benchmark,run,sample,seconds\n2,a,0,0,0.5\n")
    return folder


def closed(schema):
    """The schema without room for more fields, so that every field that we print must be described."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    return parts | {"additionalProperties": False} if isinstance(schema.get("required"), list) else parts


def check_document(name: str, found) -> None:
    schema = json.loads(schema_file(name).read_text())
    problems = [
        f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(closed(schema)).iter_errors(found)
    ]
    assert problems == []


@pytest.mark.parametrize("name", VERSIONS)
def test_a_schema_describes_the_code(name):
    """Where it changed: ``python -m harness.cli.json_schemas``, which says whether that needs a new major version."""
    assert schema_file(name).read_text() == schema_text(name, schema_version(name))
    assert json.loads(schema_file(name).read_text())["$id"] == f"urn:scaling-harness:{name}:{schema_version(name)}"
    Draft202012Validator.check_schema(json.loads(schema_file(name).read_text()))


@pytest.mark.parametrize("name", VERSIONS)
def test_a_changed_schema_has_another_version(name):
    """The digest of every version is kept: one that has been published never changes its meaning."""
    digests = schema_versions()[name]
    assert schema_version(name).partition(".")[0] == str(VERSIONS[name])
    assert digests[schema_version(name)] == digest_of(json.loads(schema_file(name).read_text()))
    assert len(set(digests.values())) == len(digests)


def test_every_schema_file_is_of_a_document():
    assert {path.name for path in FOLDER.iterdir()} == {schema_file(name).name for name in VERSIONS}


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("list", "list"),
        pytest.param("doctor", "doctor", marks=pytest.mark.slow),
        ("new", "new probe mine"),
        ("fit", "fit rates.csv --predict 64"),
        ("plan", "sweep quick --dry-run"),
        ("plan", "sweep quick --backends ddp --ranks 2 --site slurm --set slurm.partition=batch --dry-run"),
        ("sweep", "report --store old.sqlite --out page.html --predict 8 --link 100Gbit,5us"),
        ("sweep", "report --store sweep.sqlite --out page.html"),
        ("comparison", f"report 20261126-043948-3275 {SWEEP} --store old.sqlite --out page.html"),
        ("index", f"report {SWEEP} --store old.sqlite --index pages"),
        ("comparison", f"sweeps compare 20261126-043948-3275 {SWEEP} --store old.sqlite"),
        ("sweeps", "sweeps list --store old.sqlite"),
        ("show", "sweeps show --store old.sqlite"),
        ("labels", "sweeps tag latest release --store sweep.sqlite"),
        ("deletion", "sweeps prune --keep 3 --store old.sqlite"),
        pytest.param("verdict", "check --store old.sqlite", marks=pytest.mark.slow),
        pytest.param("verdict", "check --store nights.sqlite", marks=pytest.mark.slow),
        ("verdict", "check --history history.csv --current current.csv"),
        ("acceptance", "check --store nights.sqlite --accept synthetic --because larger"),
        ("ingest", "ingest bench.json --store ingested.sqlite"),
        ("merge", "merge old.sqlite --store merged.sqlite"),
    ],
)
def test_the_output_of_a_command_fits_its_schema(folder, monkeypatch, capsys, name, command):
    monkeypatch.chdir(folder)
    assert main([*command.split(), "--json"]) in (0, 1, 3)
    found = json.loads(capsys.readouterr().out)
    assert list(found)[:2] == ["schema", "schema_version"]
    assert found["schema_version"] == schema_version(name)
    assert found["schema"] == schema_name(name) == f"scaling-harness/{name}/1"
    check_document(name, found)


@pytest.mark.parametrize(
    "judgement", [judgements.everything(), judgements.nothing(), judgements.odd(), judgements.numberless()]
)
def test_any_verdict_fits_its_schema(judgement):
    check_document("verdict", json.loads(json.dumps(verdict_document(judgement), allow_nan=False)))


def test_a_calibration_fits_its_schema():
    """Measured on one suite: the command would take ten seconds."""
    make = partial(synthetic_suite, NOISE_MODELS["tuned"])
    *_, measured = calibrate(make, "here", 50, (0.2,), RULE)
    report = CalibrationReport((measured,), assurance_of([measured], "check --calibrate"), "no history")
    check_document("calibration", json.loads(json.dumps(report.as_json(), allow_nan=False)))


def over(net, bytes_s):
    """The cells of a sweep over links of that rate."""
    link = Link(net=net, wanted_bytes_s=None, achieved_bytes_s=bytes_s, round_trip_s=1e-5)
    return placed(net=net, link=link, across=(1e-4, 1 / bytes_s), widths=(1,), nodes=(1, 2), site="local")


@pytest.mark.parametrize(
    ("cells", "present"),
    [
        (placed(), ("exchanges", "layers", "forecasts", "placements", "packed")),
        ((*over("100mbit", 12e6), *over("1gbit", 119e6)), ("exchanges", "layers", "forecasts", "networks")),
    ],
    ids=["nodes", "links"],
)
def test_a_sweep_over_nodes_or_links_fits_its_schema(folder, cells, present):
    with closing(open_store(str(folder / "old.sqlite"), create=False)) as store:
        info = store.sweep(SWEEP)
    found = as_json(info, analyse_cells(cells), Path("page.html"), None, {})
    assert all(found[name] for name in present)
    check_document("sweep", json.loads(json.dumps(found, allow_nan=False)))


def test_exported_rows_fit_their_schema(folder, monkeypatch):
    monkeypatch.chdir(folder)
    rows = [plain_values(row) for store in ("old.sqlite", "sweep.sqlite") for row in read_table(store, []).rows]
    for row in rows:
        check_document("trial-row", row)
    assert main(["export", "--store", "old.sqlite", "--out", "rows.csv"]) == 0
    with Path("rows.csv").open(newline="") as file:
        assert next(csv.reader(file)) == json.loads(schema_file("trial-row").read_text())["required"]


def test_rows_of_frames_fit_their_schema(folder):
    store = harness.open_store(folder / "sweep.sqlite")
    trials = store.trials()
    frames = {
        "sweep-row": store.sweeps(),
        "answer-row": store.answers(),
        "cell-row": store.cells(),
        "step-row": store.steps(trials.iloc[0]),
    }
    for name, frame in {**frames, "trial-row": trials}.items():
        assert frame.attrs["schema"] == schema_name(name)
        assert frame.attrs["schema_version"] == schema_version(name)
        for row in json.loads(frame.to_json(orient="records", date_format="iso")):
            check_document(name, row)


def test_a_document_that_lacks_a_field_does_not_fit():
    found = json.loads(json.dumps(verdict_document(judgements.everything())))
    del found["verdicts"][0]["reason"]
    with pytest.raises(AssertionError, match=r"\$.verdicts\[0\]: 'reason' is a required property"):
        check_document("verdict", found)


@pytest.mark.parametrize("count", [3, 200_000])
def test_a_printed_document_is_what_it_was_and_a_long_one_is_one_line(capsys, count):
    document = {"schema": "plan/1", "cases": [f"case {number} \x7f" for number in range(count)]}
    print_json(document)
    text = capsys.readouterr().out
    assert json.loads(text) == document
    assert "\x7f" not in text
    assert text.count("\n") == (1 if count > 3 else count + 5)


def test_a_document_with_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        print_json({"value": float("nan")})
