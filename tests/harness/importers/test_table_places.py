"""Tables of other tools: versions as nights, and rows of different places that are never one series."""

from __future__ import annotations

import json
import random

import pytest

from harness.cli.app import main
from harness.errors import UsageError
from harness.importers.csv_table import ChunkSizes
from harness.importers.night_csv import read_histories
from harness.importers.throughput_csv import read_throughputs

HEADER = "night,benchmark,run,sample,seconds,python,commit"
SECONDS = {"3.9": 0.32e-3, "3.10": 0.20e-3}
NIGHTS = 13


def rows(night, *pythons, factor=1.0, benchmark="parse"):
    noise, sd = random.Random(f"{night} {pythons}"), 0.002 if night == NIGHTS else 0.01
    return [
        f"{night},{benchmark},{number},{sample},{SECONDS.get(python, 2e-4) * factor * (1 + noise.gauss(0, sd)):.9f},"
        f"{python},c{night}"
        for number, python in enumerate(python for python in pythons for _ in range(3))
        for sample in range(4)
    ]


@pytest.fixture
def read(tmp_path):
    """``read(history, current)``: the series by name, from rows with a header."""

    def from_rows(history, current, header=HEADER, pairs=None, **options):
        files = [tmp_path / name for name in ("H.csv", "C.csv", "P.csv")]
        for file, lines in zip(files, (history, current, pairs or ()), strict=True):
            file.write_text("\n".join([header, *lines] if file.name != "P.csv" else lines) + "\n")
        series = read_histories(files[0], files[1], files[2] if pairs else None, **options)
        return {one.name: one for one in series}

    return from_rows


@pytest.fixture
def check(tmp_path, read, capsys):
    """The exit code of `check` and the status of each series."""

    def judge(history, current):
        read(history, current)
        status = main(["check", "--history", str(tmp_path / "H.csv"), "--current", str(tmp_path / "C.csv"), "--json"])
        document = json.loads(capsys.readouterr().out)
        return status, {name: found["status"] for name, found in document["benchmarks"].items()}

    return judge


MATRIX = [line for night in range(1, NIGHTS) for line in rows(night, "3.9", "3.10")]
AT_OLD, AT_NEW = "parse @ python 3.9", "parse @ python 3.10"


@pytest.mark.parametrize(
    ("current", "status", "found"),
    [
        (rows(NIGHTS, "3.9", "3.10"), 0, {AT_OLD: "pass", AT_NEW: "pass"}),
        (rows(NIGHTS, "3.10", "3.9"), 0, {AT_OLD: "pass", AT_NEW: "pass"}),
        (rows(NIGHTS, "3.9"), 3, {AT_OLD: "pass", AT_NEW: "missing"}),
        (rows(NIGHTS, "3.10"), 3, {AT_OLD: "missing", AT_NEW: "pass"}),
        (rows(NIGHTS, "3.9", factor=1.27), 3, {AT_OLD: "suspect", AT_NEW: "missing"}),
        (rows(NIGHTS, "3.9", "3.11"), 3, {AT_OLD: "pass", "parse @ python 3.11": "incomparable"}),
        (rows(NIGHTS, "3.9", "3.10", "3.11"), 0, {AT_OLD: "pass", AT_NEW: "pass", "parse @ python 3.11": "new"}),
    ],
)
def test_a_matrix_of_two_pythons_in_a_table(check, current, status, found):
    assert check(MATRIX, current) == (status, found)


def test_one_place_adds_nothing_to_the_name(read):
    history = [line for night in range(1, 5) for line in rows(night, "3.9")]
    assert list(read(history, rows(5, "3.9"))) == ["parse"]
    assert list(read(history, rows(5, "3.9"), chunks=ChunkSizes(piece_rows=3, reduce_rows=5))) == ["parse"]


def test_an_upgrade_in_a_table_says_what_differs(read):
    history = [line for night in range(1, 5) for line in rows(night, "3.9")]
    (series,) = read(history, rows(5, "3.10")).values()
    assert (series.name, series.outcome, series.reason) == ("parse", "incomparable", "python 3.10, not 3.9")


def test_two_readings_of_a_sample_name_the_place(read):
    with pytest.raises(UsageError, match=r"benchmark 'parse', run '0', sample '0', python '3.9'"):
        read(MATRIX, [*rows(NIGHTS, "3.9"), f"{NIGHTS},parse,0,0,1.5,3.9,x"])


def test_both_tables_say_where_or_neither(read, tmp_path):
    (tmp_path / "old.csv").write_text("night,benchmark,run,sample,seconds\n1,parse,0,0,1\n")
    read(MATRIX, rows(NIGHTS, "3.9"))
    with pytest.raises(UsageError, match=r"old.csv:1: no column 'python', which .*C.csv has; add it, or remove it"):
        read_histories(tmp_path / "old.csv", tmp_path / "C.csv", None)


def test_pairs_name_their_place_where_there_are_several(read):
    current = rows(NIGHTS, "3.9", "3.10")
    placed = read(MATRIX, current, pairs=["benchmark,pair,head_s,base_s,python", "parse,0,1.2,1.0,3.10"])
    assert (len(placed[AT_NEW].pairs), placed[AT_OLD].pairs) == (1, ())
    with pytest.raises(UsageError, match=r"P.csv:2: night 13 has 'parse' at other places; say which by .* python"):
        read(MATRIX, current, pairs=["benchmark,pair,head_s,base_s", "parse,0,1.2,1.0"])
    alone = read(MATRIX, rows(NIGHTS, "3.9"), pairs=["benchmark,pair,head_s,base_s", "parse,0,1.2,1.0"])
    assert len(alone[AT_OLD].pairs) == 1


# Versions as nights

PLAIN = "night,benchmark,run,sample,seconds"


def plain(*nights):
    return [
        f"{night},a,{run},{sample},{1 + place}" for place, night in enumerate(nights) for run in "01" for sample in "01"
    ]


@pytest.mark.parametrize(
    ("earlier", "newest"),
    [
        (["3.8", "3.9"], "3.10"),
        (["3.9.9", "3.9.10", "3.10.0rc1"], "3.10"),
        (["v1.9", "v1.10", "v2.0"], "v2.0.1"),
        (["8", "9", "10"], "11"),
    ],
)
def test_versions_are_ordered_as_versions(read, earlier, newest):
    (series,) = read(list(reversed(plain(*earlier))), plain(newest), header=PLAIN).values()
    assert [night.night for night in series.past] == earlier
    assert series.newest.night == newest


def test_a_later_version_in_the_history_is_no_earlier_night(read):
    (series,) = read(plain("3.8", "3.9", "3.10", "3.11"), plain("3.10")[:4], header=PLAIN).values()
    assert [night.night for night in series.past] == ["3.8", "3.9"]


def test_versions_and_dates_do_not_mix(read):
    with pytest.raises(UsageError, match=r"night '3.10.1' is a version, others such as '2026-01-02' are a date"):
        read(plain("2026-01-01", "3.10.1"), plain("2026-01-02"), header=PLAIN)


# Throughputs


def test_throughputs_of_two_machines_are_two_curves(tmp_path):
    file = tmp_path / "t.csv"
    lines = [f"{ranks},{rate * ranks},{name}" for name, rate in (("a", 100), ("b", 160)) for ranks in (1, 2, 4)]
    file.write_text("\n".join(["ranks,throughput,machine", *lines]) + "\n")
    assert read_throughputs(file).throughputs == {
        "all (machine a)": {1: [100], 2: [200], 4: [400]},
        "all (machine b)": {1: [160], 2: [320], 4: [640]},
    }


def test_hosts_differ_along_one_curve(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("ranks,throughput,host\n1,100,n1\n2,190,n7\n")
    assert list(read_throughputs(file).throughputs) == ["all"]
