"""Where and when ingested runs were measured, and of what code: old layouts, changed files, names, clocks."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from harness.cli.app import main
from harness.importers.pytest_benchmark import place_of
from harness.store.opening import open_store
from tests.support.stores import run

PYTHON = {
    "python_implementation": "CPython",
    "python_implementation_version": "3.11.7",
    "python_version": "3.11.7",
    "python_compiler": "GCC 12.2.0",
    "python_build": ["main", "May  9 2026 07:35:25"],
    "release": "6.1",
    "system": "Linux",
}
"""As pytest-benchmark 3.2.3 writes it."""
EPYC = {"vendor_id": "AuthenticAMD", "hardware": "unknown", "brand": "AMD EPYC"}
SECOND = {"b": 1.0e-3}


def machine(node="ci", cpu=EPYC, **more):
    known = {"node": node, "processor": "", "machine": "x86_64", **PYTHON, **more}
    return known if cpu is None else known | {"cpu": cpu}


@pytest.fixture
def store(tmp_path):
    return str(tmp_path / "r.sqlite")


@pytest.fixture
def night(tmp_path, store, capsys):
    """``night(number, seconds, …)``: three files of a night, ingested; the exit code."""

    def ingest(number, seconds=1e-3, info=None, commit="aaa", dirty=False, moment=None, label=None):
        files = []
        for repeat in range(3):
            data = [seconds * (1 + 0.01 * ((7 * number + repeat) % 5 - 2)) + 1e-9 * repeat] * 3
            document = {
                "machine_info": info or machine(),
                "commit_info": {"id": commit, "dirty": dirty, "project": "p", "branch": "main"},
                "benchmarks": [{"fullname": "t.py::b", "extra_info": {}, "stats": {"data": data, "median": data[0]}}],
                "datetime": moment or f"2026-01-{number:02d}T02:0{repeat}:00.000000",
                "version": "3.2.3",
            }
            files.append(tmp_path / f"{number}-{repeat}.json")
            files[-1].write_text(json.dumps(document))
        named = ["--night", label] if label else []
        return main(["ingest", *map(str, files), *named, "--store", store])

    return ingest


def verdict(store, capsys, name="t.py::b"):
    capsys.readouterr()
    status = main(["check", "--store", store, "--json"])
    document = json.loads(capsys.readouterr().out)
    return status, document["benchmarks"][name]


# The place


@pytest.mark.parametrize(
    ("info", "cpu"),
    [
        (machine(cpu={"brand_raw": "AMD EPYC 7763", "count": 4}), "AMD EPYC 7763"),
        (machine(), "AMD EPYC"),
        (machine(cpu={"hardware_raw": "BCM2835", "vendor_id_raw": "ARM"}), "BCM2835"),
        (machine(cpu={"hardware": "BCM2835", "brand": "unknown"}), "BCM2835"),
        (machine(cpu=dict.fromkeys(("vendor_id", "hardware", "brand"), "unknown")), None),
        (machine(cpu=None), None),
        (machine(cpu=None, processor="x86_64"), None),
        (
            machine(cpu=None, processor="Intel64 Family 6 Model 158 Stepping 10"),
            "Intel64 Family 6 Model 158 Stepping 10",
        ),
    ],
)
def test_the_cpu_is_found_in_every_layout_and_unknown_is_no_name(info, cpu):
    assert place_of(info).get("cpu") == cpu


def test_pypy_is_more_than_its_python():
    old, new = (
        place_of(machine(python_implementation="PyPy", python_implementation_version=v)) for v in ("7.3.1", "7.3.11")
    )
    assert old != new
    assert "implementation version" not in place_of(machine())


def test_another_cpu_is_no_improvement(store, night, capsys):
    for number in range(1, 13):
        night(number, 1e-3)
    night(13, 0.7e-3, machine(cpu={**EPYC, "brand": "AMD EPYC 9754"}))
    status, found = verdict(store, capsys)
    assert (status, found["status"], found["reason"]) == (3, "incomparable", "cpu AMD EPYC 9754, not AMD EPYC")


def test_the_machine_is_named_where_host_names_change(store, night, capsys, monkeypatch):
    monkeypatch.setenv("SCALING_MACHINE", "runner")
    for number in range(1, 13):
        night(number, info=machine(f"fv-az{number}"))
    night(13, 1.3e-3, info=machine("fv-az13"), commit="bbb")
    status, found = verdict(store, capsys)
    assert (status, found["status"], found["nights"]) == (3, "suspect", 12)


def test_one_name_for_several_machines_is_told(night, capsys, monkeypatch, tmp_path, store):
    monkeypatch.setenv("SCALING_MACHINE", "runner")
    night(1, info=machine("a"))
    assert "note" not in capsys.readouterr().out
    night(2, info=machine("b"))
    files = [str(tmp_path / f"{number}-0.json") for number in (1, 2)]
    assert main(["ingest", *files, "--store", str(tmp_path / "other.sqlite")]) == 0
    assert "SCALING_MACHINE=runner names a, b: ingest files of other machines without it" in capsys.readouterr().out


# The code


def test_changed_files_are_not_the_commit(store, night, capsys, tmp_path):
    for number in range(1, 13):
        night(number, commit="aaa")
    night(13, 1.4e-3, commit="aaa", dirty=True)
    found = verdict(store, capsys)[1]
    assert found["status"] == "suspect", "not: the machine changed"
    exported = tmp_path / "back.json"
    assert main(["export", "2026-01-13", "--store", store, "--out", str(exported)]) == 0
    assert json.loads(exported.read_text())["commit_info"] == {"id": "aaa", "dirty": True}


def test_the_same_commit_without_changes_is_the_machine(store, night, capsys):
    for number in range(1, 13):
        night(number, commit="aaa")
    night(13, 1.4e-3, commit="aaa")
    found = verdict(store, capsys)[1]
    assert (found["status"], "the machine changed" in found["reason"]) == ("inconclusive", True)


def test_a_night_with_changed_files_is_no_base(store, night, capsys):
    for number in range(1, 13):
        night(number, commit="aaa", dirty=True)
    night(13, 1.4e-3, commit="aaa")
    assert verdict(store, capsys)[1]["status"] == "suspect"


# The clock


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:07", "1980-01-01T00:00:00+00:00", "2999-01-01T00:00:00"])
def test_a_date_that_cannot_be_is_refused_and_a_label_can_mend_it(store, night, capsys, moment):
    for number in range(1, 13):
        night(number)
    capsys.readouterr()
    assert night(13, 1.4e-3, moment=moment) == 2
    problem = capsys.readouterr().err
    assert problem.count("\n") == 1
    assert "13-0.json: dated " in problem
    assert problem.endswith("name the day of its night: --night YYYY-MM-DD\n")
    assert night(13, 1.4e-3, moment=moment, label="tonight") == 2
    assert night(13, 1.4e-3, commit="bbb", moment=moment, label="2026-01-13") == 0
    status, found = verdict(store, capsys)
    assert (status, found["status"], found["nights"]) == (3, "suspect", 12)


def test_a_day_ahead_is_local_time(night):
    assert night(1, moment=(datetime.now(UTC) + timedelta(hours=14)).replace(tzinfo=None).isoformat()) == 0


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_misdated_night_that_is_stored_is_told_until_it_is_ingested_again(store, night, capsys, at):
    """Earlier versions stored it, and judged the night before in its place."""
    for number in range(1, 13):
        night(number)
    night(13, 1.4e-3, commit="bbb", label="2026-01-13", moment=at)
    with closing(open_store(store, create=True)) as opened:
        stored = opened.ledger.runs(["2026-01-13"])
        opened.ledger.remove_runs(["2026-01-13"], {(one.benchmark, one.run) for one in stored})
        for one in stored:
            assert opened.ledger.add_run(one.model_copy(update={"at": at, "night": at[:10]}))
    status, found = verdict(store, capsys, f"night {at[:10]}")
    assert (status, found["status"]) == (3, "incomparable")
    assert "--night YYYY-MM-DD" in found["reason"]
    night(13, 1.4e-3, commit="bbb", label="2026-01-13", moment=at)
    assert verdict(store, capsys)[1]["status"] == "suspect"


def test_nights_that_began_together_are_ordered_like_versions(store):
    with closing(open_store(store, create=True)) as opened:
        for label in ("3.10", "3.9", "3.8"):
            opened.ledger.add_run(run(label, night=label))
        assert opened.ledger.ingested_nights() == ["3.8", "3.9", "3.10"]
        assert opened.ledger.ingested_nights(last=1) == ["3.10"]
