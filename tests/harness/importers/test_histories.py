"""Anyone's CSV files as series: what is read, what is left out with its reason, and what is refused with its line."""

from __future__ import annotations

import csv
import gzip
import math
import statistics

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.importers.csv_table import ChunkSizes
from harness.importers.night_csv import read_histories

HEADER = "night,benchmark,run,sample,seconds"
PAIR_HEADER = "benchmark,pair,head_s,base_s"
FAULTY = [
    ("", ": is empty; its first line"),
    ("\n\n", ": is empty; its first line"),
    (f"{HEADER}\n", ": holds no rows"),
    ("night,benchmark,run,sample,secs\n1,a,0,0,1\n", ":1: no column 'seconds' ('secs' may be it"),
    ("1,a,0,0,1\n", ":1: no column 'night'"),
    (f"{HEADER},seconds\n1,a,0,0,1,2\n", ":1: names the column 'seconds' twice"),
    (f"{HEADER}\n1,a,0,0,1\n".replace(",", ";"), ":1: columns are separated by ';'"),
    (f"{HEADER}\n1,a,0,0,1\n1,a,0,1,fast\n", ":3: seconds 'fast' is not a number"),
    (f"{HEADER}\n1,a,0,0,1_0\n", ":2: seconds '1_0' is not a number"),
    (f"{HEADER}\n\n1,a,0,0,0\n", ":3: seconds '0' is no duration"),
    (f"{HEADER}\n1,a,0,0,-0.5\n", ":2: seconds '-0.5' is no duration"),
    (f"{HEADER}\n1,a,0,0,inf\n", ":2: seconds 'inf' is no duration"),
    (f"{HEADER}\n1,a,0,0,1e999\n", ":2: seconds '1e999' is no duration"),
    (f"{HEADER}\n1,a,0,0,1\n1,a,0,1", ":3: holds 4 of 5 values"),
    (f"{HEADER}\n1,a,0,0,1\n1,a\n1,a,0,1,1\n", ":3: holds 2 of 5 values"),
    (f"{HEADER},commit\n1,a,0,0,1,abc\n1,a,0,1,0.0", ":3: holds 5 of 6 values"),
    (f"{HEADER}\n1,a,0,0,0,018\n", ":2: holds 6 values under 5"),
    (f"{HEADER}\n1,a,0,0,1\n1,a,0,1,1,9\n", ":3: holds 6 values under 5"),
    (f"{HEADER},commit\n1,a,0,0,1,x\n1,a,0,1,1,9,x\n", ":3: holds 7 values under 6"),
    (f"{HEADER}\n1,a,0,0,1\n1,,0,1,1\n", ":3: benchmark is empty"),
    (f"{HEADER}\n1,a,0,0,1\n,a,0,1,1\n", ":3: night is empty"),
    (f'{HEADER}\n1,a,0,0,1\n1,"a,0,1,1\n1,a,0,2,1\n', ":3: holds 2 of 5 values"),
    (f"{HEADER}\n1,a,0,0,1\nMonday,a,0,1,1\n", ":3: night 'Monday' is neither a number nor a date"),
    (f"{HEADER}\n1,a,0,0,1\n2026-01-05,a,0,1,1\n", ":3: night '2026-01-05' is a date, others such as"),
    (f"{HEADER}\n1,a,0,0,1\n1,a,0,0,2\n", ":3: different seconds for one sample"),
]


def write(path, rows, header=HEADER):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def night(number, seconds=0.01, benchmark="a", runs=2, samples=4):
    return [(number, benchmark, run, sample, seconds) for run in range(runs) for sample in range(samples)]


@pytest.fixture
def read(tmp_path):
    """``read(history rows, current rows, pair rows)``: the series by name."""

    def from_rows(history, current, pairs=None, **options):
        h, c = write(tmp_path / "H.csv", history), write(tmp_path / "C.csv", current)
        p = None if pairs is None else write(tmp_path / "P.csv", pairs, PAIR_HEADER)
        return {one.name: one for one in read_histories(h, c, p, **options)}

    return from_rows


def nights_of(series):
    return [one.night for one in series.past]


def test_a_trial_is_the_log_of_its_median(read):
    rows = [(1, "a", 0, sample, seconds) for sample, seconds in enumerate((0.5, 9.0, 0.25))]
    (series,) = read([*rows, (1, "a", 1, 0, 2.0)], night(2)).values()
    assert series.past[0].logs == pytest.approx((math.log(0.5), math.log(2)))
    assert series.newest.logs == pytest.approx((math.log(0.01),) * 2)
    assert (series.outcome, series.reason) == (None, "")


@pytest.mark.parametrize(
    ("labels", "newest"),
    [
        (["9", "10", "8.5"], "11"),
        (["2025-12-31", "2026-01-02", "2025-02-01"], "2026-02-01"),
        (["2026-01-01T23:00:00+00:00", "2026-01-02T00:30:00", "2026-01-02T01:00:00+02:00"], "2026-01-02T03:00:00Z"),
    ],
)
def test_nights_are_ordered_by_number_or_time(read, labels, newest):
    (series,) = read([row for label in labels for row in night(label)], night(newest)).values()
    expected = [labels[2], *labels[:2]] if "T" not in newest else None
    assert nights_of(series) == (expected or [min(labels[0], labels[2]), labels[1]])


def test_one_night_may_be_spelt_in_two_ways(read):
    (series,) = read([(1, "a", 0, 0, 1), ("1.0", "a", 1, 0, 2), ("02", "a", 0, 0, 3)], night("3.0")).values()
    assert [len(one.logs) for one in series.past] == [2, 1]


def test_runs_and_samples_may_be_words_and_names_stay_as_they_are(read):
    names = ["NA", "null", "1.10", "1.1", "all reduce, 4 ranks", "Größe"]
    rows = [(f'"{name}"', run, 1) for name in names for run in ("cold", "warm", 7)]
    at = lambda when: [(when, name, run, "first", seconds) for name, run, seconds in rows]  # noqa: E731
    found = read(at(1), at(2))
    assert list(found) == names
    assert all(len(one.past[0].logs) == len(one.newest.logs) == 3 for one in found.values())


@pytest.mark.parametrize("names", [["1.10", "1.1"], ["007", "7", "x"], ["True", "true"]])
def test_names_that_look_like_numbers_stay_apart(read, names):
    rows = [(2, name, 0, 0, 1 + place) for place, name in enumerate(names)]
    found = read([(1, *row[1:]) for row in reversed(rows)], rows)
    assert list(found) == names
    for place, one in enumerate(found.values()):
        assert one.past[0].logs == one.newest.logs == pytest.approx((math.log(1 + place),))


def test_columns_in_any_order_with_others_between(tmp_path):
    h = tmp_path / "H.csv"
    h.write_text("seconds, Sample ,commit,RUN,benchmark,night,commit\n0.5, 0,abc,1,a,1,\n0.7,1,abc,1,a,1,x\n")
    (series,) = read_histories(h, write(tmp_path / "C.csv", night(2)), None)
    assert series.past[0].logs == pytest.approx((math.log(0.6),))


def test_files_may_be_packed_and_start_with_a_byte_order_mark(tmp_path):
    h, c = tmp_path / "H.csv.gz", tmp_path / "C.csv"
    h.write_bytes(gzip.compress(b"\xef\xbb\xbf" + f"{HEADER}\r\n1,a,0,0,1\r\n1,a,0,1,\r\n1,a,0,2,3".encode()))
    (series,) = read_histories(h, write(c, night(2)), None)
    assert series.past[0].logs == pytest.approx((math.log(2),))
    h.write_bytes(h.read_bytes()[:-9])
    with pytest.raises(UsageError, match="no whole gzip file"):
        read_histories(h, c, None)


def test_order_of_series_and_what_is_missing_or_new(read):
    history = [*night(1, benchmark="gone"), *night(2, benchmark="b"), *night(2, benchmark="also gone")]
    found = read(history, [*night(3, benchmark="new"), *night(3, benchmark="b")])
    assert list(found) == ["new", "b", "also gone", "gone"]
    assert (found["new"].past, found["new"].outcome) == ((), None)
    assert (found["gone"].outcome, found["gone"].newest) == ("missing", None)
    assert "night 3 has no reading of it, last was 1" in found["gone"].reason


def test_the_newest_night_of_several_is_judged_and_the_earlier_join_the_history(read):
    found = read(night(1), [*night(3), *night(2), *night(2, benchmark="b")])
    assert nights_of(found["a"]) == ["1", "2"]
    assert found["a"].newest.night == "3"
    assert found["b"].outcome == "missing"


def test_the_history_may_be_the_whole_table_or_go_on_after_the_night(read):
    table = [row for number in range(1, 6) for row in night(number, seconds=number)]
    (series,) = read([*table, *night(5, benchmark="later")], night(3, seconds=3)).values()
    assert nights_of(series) == ["1", "2"]
    assert len(series.newest.logs) == 2
    (series,) = read(table, table).values()
    assert (nights_of(series), series.newest.night) == (["1", "2", "3", "4"], "5")


def test_no_night_before_is_no_past(read):
    (series,) = read(night(3), night(3)).values()
    assert (series.past, series.outcome) == ((), None)


def test_only_the_newest_nights_of_each_benchmark_are_kept(read):
    rare = [row for number in (1, 20) for row in night(number, benchmark="rare")]
    often = [row for number in range(30) for row in night(number)]
    found = read(
        [*rare, *often], [*night(30), *night(29), *night(30, benchmark="rare")], keep=5, chunks=ChunkSizes(7, 20)
    )
    assert nights_of(found["a"]) == ["25", "26", "27", "28", "29"]
    assert nights_of(found["rare"]) == ["1", "20"]


def test_a_failed_reading_is_unknown_and_a_trial_needs_half_of_them(read):
    def run(number, *seconds):
        return [(2, "a", number, sample, one) for sample, one in enumerate(seconds)]

    (series,) = read(night(1), [*run(0, 1, "", "NaN", 3), *run(1, 1, "null", "nan"), *run(2, 5)]).values()
    assert series.newest.logs == pytest.approx((math.log(2), math.log(5)))
    assert series.outcome is None
    assert series.reason == "1 of 3 trials left out: run 1 (1 of 3 readings known)"


def test_a_newest_night_without_a_number_has_failed(read):
    found = read([*night(1), *night(2, seconds="")], [*night(3, seconds="nan"), *night(3, benchmark="b")])
    assert (found["a"].outcome, found["a"].newest) == ("failed", None)
    assert found["a"].reason.startswith("night 3 gave no number; 2 of 2 trials left out: run 0 (0 of 4 readings")
    assert nights_of(found["a"]) == ["1"]
    assert found["b"].outcome is None


def test_pairs_in_the_order_of_their_numbers(read):
    pairs = [("a", 10, 3, 1), ("a", 9, 2, 1), ("a", 9, 4, 1), ("a", 9, 8, 1), ("a", 2, 1, 2)]
    found = read(night(1), [*night(2), *night(2, benchmark="b")], pairs)
    assert found["a"].pairs == pytest.approx((math.log(0.5), math.log(4), math.log(3)))
    assert found["b"].pairs == ()


def test_a_pair_with_an_unknown_side_is_left_out(read):
    (series,) = read(night(1), night(2), [("a", 1, 1, ""), ("a", 2, 2, 1)]).values()
    assert series.pairs == pytest.approx((math.log(2),))
    assert series.reason == "1 of 2 pairs left out: pair 1 (0 of 1 readings known)"


def test_no_pair_yet(read):
    (series,) = read(night(1), night(2), []).values()
    assert series.pairs == ()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("c", 1, 1, 1), r"P\.csv:3: night 2 has no benchmark 'c'"),
        (("a", "first", 1, 1), r"P\.csv:3: pair 'first' is not a number"),
        (("a", 2, 0, 1), r"P\.csv:3: head_s '0' is no duration"),
        (("a", 2, 1), r"P\.csv:3: holds 3 of 4 values"),
    ],
)
def test_pairs_that_are_refused(read, pair, message):
    with pytest.raises(UsageError, match=message):
        read(night(1), night(2), [("a", 1, 1, 1), pair])


@pytest.mark.parametrize(("which", "piece"), [("H.csv", 1), ("C.csv", 250_000)])
@pytest.mark.parametrize(("text", "message"), FAULTY)
def test_a_fault_is_reported_with_file_and_line(tmp_path, text, message, which, piece):
    h, c = write(tmp_path / "H.csv", night(1, benchmark="z")), write(tmp_path / "C.csv", night(2, benchmark="z"))
    (tmp_path / which).write_text(text)
    with pytest.raises(UsageError) as caught:
        read_histories(h, c, None, chunks=ChunkSizes(piece_rows=piece))
    assert f"{tmp_path / which}{message}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADER}\n1,a,0,0,1\n1,caf".encode() + b"\xe9,0,0,1\n", ":3: is not UTF-8"),
        (f"{HEADER}\n1,a,0,0,1\n".encode("utf-16"), "is not UTF-8"),
        (f"{HEADER}\n1,a,0,0,1\0\n".encode(), ":2: seconds"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is not UTF-8"),
    ],
)
def test_what_is_no_text(tmp_path, content, message):
    h = tmp_path / "H.csv"
    h.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_histories(h, write(tmp_path / "C.csv", night(2)), None)


def test_files_that_are_not_there(tmp_path):
    c = write(tmp_path / "C.csv", night(2))
    with pytest.raises(UsageError, match=r"absent\.csv: cannot be read"):
        read_histories(tmp_path / "absent.csv", c, None)
    with pytest.raises(UsageError, match="cannot be read"):
        read_histories(tmp_path, c, None)


def test_history_and_night_of_different_kinds(read):
    with pytest.raises(UsageError, match=r"H\.csv:2: night '1' is a number, others such as '2026-01-05' are a d"):
        read(night(1), night("2026-01-05"))


def test_a_repeated_row_counts_once(read):
    (series,) = read([*night(1), *night(1), *night(2, seconds="")], [*night(3), *night(3)]).values()
    assert [len(one.logs) for one in series.past] == [2]
    assert len(series.newest.logs) == 2


ROWS = st.lists(
    st.tuples(
        st.integers(1, 8),
        st.sampled_from("abc"),
        st.integers(0, 12),
        st.integers(0, 3),
        st.one_of(st.floats(1e-6, 1e3), st.just("")),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:4],
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, current=ROWS, data=st.data())
def test_the_order_of_rows_changes_nothing(read, rows, current, data):
    chunks = ChunkSizes(9, 20)
    current = [(9, *row[1:]) for row in current]
    current = list({row[:4]: row for row in current}.values())
    found = read(rows, current, keep=3, chunks=chunks)
    again = read(data.draw(st.permutations(rows)), data.draw(st.permutations(current)), keep=3, chunks=chunks)
    assert again == found
    for name, series in found.items():
        nights = sorted({row[0] for row in rows if row[1] == name})[-3:]
        assert set(nights_of(series)) <= set(map(str, nights))
        for one in series.past:
            assert one.logs == pytest.approx(tuple(_logs(rows, name, int(one.night))), abs=1e-12)


def _logs(rows, name, number):
    for run in range(13):
        seconds = [row[4] for row in rows if row[:3] == (number, name, run)]
        known = [one for one in seconds if one != ""]
        if known and 2 * len(known) >= len(seconds):
            yield math.log(statistics.median(known))


def test_many_pieces_give_the_same_as_one(tmp_path):
    rows = [row for number in range(20) for name in "ab" for row in night(number, 0.01 + number / 1e3, name)]
    h, c = tmp_path / "H.csv", write(tmp_path / "C.csv", night(20))
    with h.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([HEADER.split(","), *rows])
    whole = read_histories(h, c, None, keep=7)
    assert read_histories(h, c, None, keep=7, chunks=ChunkSizes(13, 30)) == whole
