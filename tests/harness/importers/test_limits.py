"""Files of other programs that are too large, or unpack to too much."""

from __future__ import annotations

import gzip
import sys

import pytest

from harness.errors import UsageError
from harness.importers.csv_table import LabelCodes, read_table
from harness.importers.limits import MAX_JSON_VALUES, MAX_LABELS, MAX_TABLE_BYTES
from harness.importers.night_csv import READING_COLUMNS, read_histories
from harness.importers.pytest_benchmark import read_pytest_benchmark
from harness.importers.throughput_csv import read_throughputs
from tests.support.measured_command import run_measured

HEADER = "night,benchmark,run,sample,seconds\n"
BLOCK = b"1,a,1,1,0.5\n" * 100_000


def write_gzip(path, header: str, block: bytes, size: int):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.encode())
        for _ in range(size // len(block) + 1):
            file.write(block)
    return path


@pytest.fixture
def tonight(tmp_path):
    path = tmp_path / "tonight.csv"
    path.write_text(HEADER + "".join(f"9,a,{run},1,0.5\n" for run in range(5)))
    return path


@pytest.mark.parametrize("content", [b"x" * 5_000_000, b"\0" * 5_000_000], ids=["letters", "zeros"])
def test_a_file_of_one_line_is_not_read_whole(tmp_path, tonight, content):
    path = tmp_path / "history.csv"
    for text in (content, HEADER.encode() + content):
        path.write_bytes(text)
        with pytest.raises(UsageError, match=r"history\.csv: has a line of more than 1 MiB; name a CSV file"):
            read_histories(path, tonight, None)
        with pytest.raises(UsageError, match=r"has a line of more than 1 MiB|no column 'ranks'"):
            read_throughputs(path)


@pytest.mark.slow
def test_what_unpacks_to_too_much_is_refused_in_little_memory(tmp_path, tonight):
    path = write_gzip(tmp_path / "history.csv.gz", HEADER, BLOCK, MAX_TABLE_BYTES)
    assert path.stat().st_size < MAX_TABLE_BYTES / 50
    command = [sys.executable, "-m", "harness", "check", "--history", str(path), "--current", str(tonight)]
    done = run_measured(command, tmp_path)
    assert done.returncode == 2
    (message,) = done.stderr.splitlines()
    assert "history.csv.gz: is larger than 512 MiB unpacked; leave out nights" in message
    assert done.peak_kib < 512 * 2**10


def test_labels_without_end_are_refused(tonight):
    label_codes = {name: LabelCodes() for name in READING_COLUMNS.labels}
    label_codes["run"] = LabelCodes({f"run {number}": number for number in range(MAX_LABELS)})
    with pytest.raises(UsageError, match=r"tonight\.csv: a column has more than 1,000,000 different labels; leave out"):
        read_table(tonight, READING_COLUMNS, label_codes, lambda rows: rows)


def test_json_has_limits_of_size_count_and_depth(tmp_path):
    path = tmp_path / "b.json"
    for content, message in (
        ("[" + "0," * MAX_JSON_VALUES + "0]", "holds more than 8,000,000 values"),
        ("[" * 100_000, "is no JSON of pytest-benchmark"),
        (" " * (128 * 2**20 + 1), "is larger than 128 MiB"),
    ):
        path.write_text(content)
        with pytest.raises(UsageError, match=f"b.json: {message}.*; write it again with `pytest --benchmark-json"):
            read_pytest_benchmark(path)
