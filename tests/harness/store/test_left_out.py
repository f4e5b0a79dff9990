"""One bad record spoils nothing else: it is named with its field and value, and the rest of the store is read."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.core.records import MIB
from harness.cli.app import main
from harness.store import left_out
from harness.store.foreign import MAX_RECORD_BYTES
from harness.store.merging import merge
from harness.store.opening import open_store
from tests.support.builders import make_case, make_trial
from tests.support.stored_once import write_once
from tests.support.stores import begin, make_format_1
from tests.support.stores import opened as opened

CASE = make_case()
BAD = (CASE.key, 1)


@pytest.fixture(autouse=True)
def _log_anew():
    left_out.log_left_out.cache_clear()


@pytest.fixture
def store_path(tmp_path, monkeypatch) -> Path:
    """A finished sweep with three trials of one case, of which the second is to be spoilt."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.sqlite"

    def write() -> None:
        with closing(open_store(str(path), create=True)) as store:
            begin(store)
            for number in range(3):
                store.add_trial("s1", make_trial(CASE, number))
            store.finish_sweep("s1", "2026-01-01T05:00:00+00:00")

    write_once(path, write, "three trials")
    return path


def spoil(path: Path, change: Callable[[Any], object], table: str = "trials", where: str = "round = 1") -> None:
    with closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute(f"SELECT body FROM {table} WHERE {where}").fetchone()
        record = json.loads(body)
        change(record)
        connection.execute(f"UPDATE {table} SET body = ? WHERE {where}", (json.dumps(record),))
        connection.commit()


def put(*place: str | int, value: Any) -> Callable[[Any], None]:
    def change(record: Any) -> None:
        for part in place[:-1]:
            record = record[part]
        record[place[-1]] = value

    return change


RANK = ("ranks", 0)
WINDOW = {"began_s": 0.0, "ended_s": 1.0, "cpu_s": 1.0}
BAD_FIELDS: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "amount 0": ((*RANK, "amount_per_step"), 0),
    "amount negative": ((*RANK, "amount_per_step"), -1.0),
    "amount NaN": ((*RANK, "amount_per_step"), float("nan")),
    "amount infinite": ((*RANK, "amount_per_step"), float("inf")),
    "amount a huge integer": ((*RANK, "amount_per_step"), 10**400),
    "amount a denormal": ((*RANK, "amount_per_step"), 5e-324),
    "amount text": ((*RANK, "amount_per_step"), "many"),
    "amounts that differ": ((*RANK, "amount_per_step"), 9),
    "unit of two words": ((*RANK, "unit"), "a b"),
    "unit empty": ((*RANK, "unit"), ""),
    "unit with a control character": ((*RANK, "unit"), "a\x1b[2J"),
    "units that differ": ((*RANK, "unit"), "tokens"),
    "step 0": ((*RANK, "step_s"), [0.1, 0]),
    "step -0.0": ((*RANK, "step_s"), [0.1, -0.0]),
    "step negative": ((*RANK, "step_s"), [0.1, -0.1]),
    "step a denormal": ((*RANK, "step_s"), [0.1, 5e-324]),
    "step 1e308": ((*RANK, "step_s"), [0.1, 1e308]),
    "step NaN": ((*RANK, "step_s"), [0.1, float("nan")]),
    "step unknown": ((*RANK, "step_s"), [0.1, None]),
    "no steps": ((*RANK, "step_s"), []),
    "fewer steps": ((*RANK, "step_s"), [0.1]),
    "no ranks": (("ranks",), []),
    "rank negative": ((*RANK, "rank"), -1),
    "rank twice": ((*RANK, "rank"), 1),
    "rank 10^9": ((*RANK, "rank"), 10**9),
    "a world of 10^9": ((*RANK, "world"), 10**9),
    "memory 2^63": ((*RANK, "memory_peak_bytes"), 2**63),
    "memory negative": ((*RANK, "memory_peak_bytes"), -1),
    "start-up 1e308": ((*RANK, "startup_s"), 1e308),
    "threads negative": ((*RANK, "threads"), -1),
    "window infinite": ((*RANK, "window"), {**WINDOW, "ended_s": float("inf")}),
    "flops negative": ((*RANK, "step_work"), {"flops": -1.0, "bytes_moved": 1.0, "dtypes": []}),
    "no parts": ((*RANK, "phases"), {"together_s": [], "alone_s": {}, "digest": ""}),
    "parts 1e308": ((*RANK, "phases"), {"together_s": [1e308] * 3, "alone_s": {}, "digest": ""}),
    "a part never timed": ((*RANK, "phases"), {"together_s": [1.0], "alone_s": {"forward": []}, "digest": ""}),
    "overhead of no block": ((*RANK, "own_cost"), {"steps": 1, "watched_s": [], "unwatched_s": []}),
    "overhead of half a pair": ((*RANK, "own_cost"), {"steps": 1, "watched_s": [1.0], "unwatched_s": []}),
    "a message never timed": ((*RANK, "messages"), [{"message_bytes": 8, "times_s": []}]),
    "a message on one rank": ((*RANK, "messages"), [{"message_bytes": 8, "times_s": [1.0]}]),
    "a device's peak of 0": ((*RANK, "peak"), {"flop_s": 0.0, "bytes_s": 1.0, "how": ""}),
    "round negative": (("round",), -1),
    "round 10^30": (("round",), 10**30),
    "wall time negative": (("wall_s",), -1.0),
    "wall time NaN": (("wall_s",), float("nan")),
    "before 1970": (("started_at",), "1969-12-31T23:59:59+00:00"),
    "after 9998": (("started_at",), "9999-12-31T23:59:59-12:00"),
    "no time": (("started_at",), "yesterday"),
    "cost NaN": (("cost",), float("nan")),
    "a case of no ranks": (("case", "ranks"), 0),
    "a case of 10^9 ranks": (("case", "ranks"), 10**9),
    "a batch of 0": (("case", "batch"), 0),
    "threads 2^63": (("case", "threads"), 2**63),
    "a window of 0 s": (("case", "window_s"), 0),
    "a time limit of NaN": (("case", "timeout_s"), float("nan")),
    "an outcome": (("outcome",), "great"),
    "a field of a later version": (("colour",), "red"),
}


@pytest.mark.parametrize(("place", "value"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_trial_is_an_invalid_one_and_the_others_are_read(store_path, capsys, opened, place, value):
    spoil(store_path, put(*place, value=value))
    assert main(["report", "--store", "r.sqlite", "--out", "page.html", "--json"]) == 0
    said = capsys.readouterr()
    (cell,) = json.loads(said.out)["cells"]
    assert cell["trials"] == 2
    assert cell["throughput"]["value"] == pytest.approx(80)
    assert "unreadable" in cell["flags"]
    assert said.err.count("\n") == said.err.count("is left out") == 1
    assert "round 2 is left out: " in said.err
    assert "record can&#x27;t be read" in Path("page.html").read_text().replace("&#39;", "&#x27;")
    store = opened("r.sqlite", create=False)
    first, bad, last = store.trials("s1")
    assert (bad.round, bad.outcome, bad.ranks) == (1, "invalid", ())
    assert first.outcome == last.outcome == "ok"
    assert BAD in store.done("s1"), "it is not run again under the same key"


@pytest.mark.parametrize(
    "command",
    [
        ["export", "--store", "r.sqlite", "--out", "rows.csv"],
        ["export", "--store", "r.sqlite", "--out", "rows.parquet"],
        ["export", "--store", "r.sqlite", "--out", "rows.json"],
        ["check", "--store", "r.sqlite"],
        ["report", "--store", "r.sqlite", "--index", "pages"],
        ["merge", "r.sqlite", "--store", "new.sqlite"],
    ],
    ids=" ".join,
)
def test_every_command_reads_the_rest(store_path, capsys, command):
    plain = main(command)
    capsys.readouterr()
    for path in store_path.parent.glob("new.sqlite*"):
        path.unlink()
    with closing(sqlite3.connect(store_path)) as connection:
        connection.execute("DELETE FROM sweep_summaries")  # they were made of the whole trial
        connection.commit()
    spoil(store_path, put("ranks", 0, "step_s", value=[0.1, float("inf")]))
    assert main(command) == plain
    said = capsys.readouterr().err
    assert command[0] == "check" or "round 2 is left out: ranks.0.step_s.1 is inf: should be " in said


def test_a_bad_trial_is_not_merged(store_path, opened):
    spoil(store_path, put("ranks", 0, "amount_per_step", value=0))
    merged = merge("r.sqlite", "new.sqlite")
    assert (merged.trials, len(merged.left_out)) == (2, 1)
    assert [trial.round for trial in opened("new.sqlite", create=False).trials("s1")] == [0, 2]
    assert {number for _, _, number, _, _ in opened("new.sqlite").ledger.measures(["s1"])} == {0, 2}


def test_a_trial_of_another_case_is_not_merged(store_path):
    spoil(store_path, put("case", "batch", value=16))
    assert (merge("r.sqlite", "new.sqlite")).trials == 2


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '{"case": 1}', "[" * 5000, b"\xff\0", b"{}", 8.5])
def test_a_trial_that_is_no_record_has_the_case_of_its_plan(store_path, opened, body):
    with closing(sqlite3.connect(store_path)) as connection:
        connection.execute("UPDATE trials SET body = ? WHERE round = 1", (body,))
        connection.commit()
    trials = opened("r.sqlite", create=False).trials("s1")
    assert [trial.outcome for trial in trials] == ["ok", "invalid", "ok"]
    assert trials[1].case == CASE
    assert merge("r.sqlite", "new.sqlite").trials == 2


def test_an_upgrade_leaves_a_bad_trial_out(tmp_path, opened):
    path = tmp_path / "old.sqlite"
    make_format_1(str(path), make_trial(CASE, 0), make_trial(CASE, 1))
    spoil(path, put("ranks", 0, "amount_per_step", value=0))
    ledger = opened(str(path)).ledger
    assert {number for _, _, number, _, _ in ledger.measures(["s1"])} == {0}


@pytest.mark.parametrize("value", ["'fast'", "9e999", "-9e999", "0", "-1.0", "1e300", "x'00'"])
def test_a_bad_measure_is_left_out(store_path, opened, caplog, value):
    with closing(sqlite3.connect(store_path)) as connection:
        connection.execute(f"UPDATE measures SET value = {value} WHERE round = 1 AND name = 'step_s'")
        connection.commit()
    read = opened("r.sqlite", create=False).ledger.measures(["s1"])
    assert {number for _, _, number, name, _ in read if name == "step_s"} == {0, 2}
    assert {number for _, _, number, name, _ in read if name == "rate"} == {0, 1, 2}
    assert "the measure step_s of trial" in caplog.text


def test_other_bad_records_are_left_out_too(store_path, opened, caplog):
    with closing(sqlite3.connect(store_path)) as connection:
        for statement in (
            "UPDATE cells SET settings = '[1]'",
            "UPDATE trials SET outcome = 'great' WHERE round = 1",
            "INSERT INTO verdicts VALUES ('s1', 'a', 'throughput', 'perfect', '{}')",
            "INSERT INTO acceptances VALUES ('a', 's1', '{\"curve\": 1}')",
            "INSERT INTO pairs VALUES ('s1', 'a', 0, 'head', '{}')",
            "INSERT INTO ingested_runs VALUES ('a', 'b', 's1', '2026-01-01', '{\"seconds\": [NaN]}')",
        ):
            connection.execute(statement)
        connection.commit()
    ledger = opened("r.sqlite").ledger
    assert [outcome for _, _, outcome, _ in ledger.outcomes("s1")] == ["ok", "invalid", "ok"]
    read = (ledger.settings(["s1"]), ledger.verdicts("s1"), ledger.statuses(["s1"]), ledger.acceptances())
    assert [len(records) for records in (*read, ledger.pairs("s1"), ledger.runs(["s1"]))] == [0] * 6
    assert set(merge("r.sqlite", "new.sqlite").beside.values()) == {0}
    assert caplog.text.count("is left out") >= 7


def test_a_bad_sweep_or_environment_hides_no_other(store_path, opened, capsys):
    store = opened("r.sqlite")
    begin(store, "s2", "2026-01-02T00:00:00+00:00")
    store.add_trial("s2", make_trial(CASE))
    store.finish_sweep("s2", "2026-01-02T05:00:00+00:00")
    spoil(store_path, put("plan", "cases", 0, "ranks", value=0), "sweeps", "id = 's1'")
    assert main(["report", "--store", "r.sqlite", "--index", "pages"]) == 0
    assert "sweep s1 is left out: " in capsys.readouterr().err
    assert merge("r.sqlite", "new.sqlite").sweeps == ("s2",)
    assert main(["report", "s1", "--store", "r.sqlite"]) == 2
    assert "plan.cases.0.ranks" in capsys.readouterr().err


@pytest.mark.parametrize(
    "labels",
    [
        '{"title": "a\\u001b[2J"}',
        '{"note": "' + "x" * 2001 + '"}',
        '{"tags": ["../../etc"]}',
        '{"tags": ["latest"]}',
        '{"tags": "x"}',
        '{"title": 1, "more": []}',
        "{",
        b"\xff",
    ],
)
def test_bad_labels_are_left_out_and_may_be_replaced(store_path, opened, capsys, labels):
    with closing(sqlite3.connect(store_path)) as connection:
        connection.execute("insert into labels values ('s1', ?)", (labels,))
        connection.commit()
    assert main(["sweeps", "list", "--store", "r.sqlite", "--json"]) == 0
    out, err = capsys.readouterr()
    (sweep,) = json.loads(out)["sweeps"]
    assert (sweep["title"], sweep["note"], sweep["tags"]) == ("synthetic: ddp at 2 ranks", None, [])
    assert err.count("the labels of sweep s1 is left out") == 1
    assert err.rstrip("\n").isprintable()
    assert merge("r.sqlite", "new.sqlite").labels == 0
    assert main(["sweeps", "tag", "s1", "good", "--store", "r.sqlite", "--quiet"]) == 0
    assert opened("r.sqlite").sweep("good").labels.tags == ("good",)


def test_a_trial_too_large_is_reported_as_it_is_stored(tmp_path, opened):
    store = opened(str(tmp_path / "r.sqlite"))
    begin(store)
    stored = store.add_trial("s1", make_trial(CASE, log_tail=("x" * MAX_RECORD_BYTES,)))
    assert (stored.outcome, store.trials("s1")) == ("failed", [stored])
    assert f"larger than a store takes ({MAX_RECORD_BYTES // MIB} MiB)" in (stored.reason or "")
