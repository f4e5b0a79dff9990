"""The transfer of files as lines: they arrive as they were, and no other file is written."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.records import RankRecord
from bench.node.transfer import LINE_PREFIX, TransferError, TransferReceiver, encode_folder
from harness.sites.base.rank_files import read_records


def line(name: object, content: bytes = b"x") -> str:
    return LINE_PREFIX + json.dumps({"file": name, "packed": base64.b85encode(zlib.compress(content)).decode()})


@settings(deadline=None)
@given(st.binary())
def test_a_file_arrives_as_it_was(content):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        (Path(here) / "record-0.json").write_bytes(content)
        (found,) = encode_folder(Path(here))
        assert "\n" not in found
        assert TransferReceiver(Path(there)).take(found)
        assert (Path(there) / "record-0.json").read_bytes() == content


@pytest.mark.parametrize(
    "name", ["node-0.json", "failure-rank-12.json", "progress-3", "telemetry-0-ip-10.eu.jsonl", "bench-node-1.log"]
)
def test_the_files_of_nodes_are_accepted(tmp_path, name):
    assert TransferReceiver(tmp_path).take(line(name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_folders_links_and_other_files_are_left_out(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in (".hidden", "case.json", "sampling-n1.lock"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert list(encode_folder(tmp_path)) == []


def test_lines_without_a_file_are_left_to_the_caller(tmp_path):
    assert not TransferReceiver(tmp_path).take("epoch 1 of 3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "/etc/passwd",
        "a/b",
        ".bashrc",
        "",
        f"{'x' * 200}.log",
        None,
        3,
        "ssh_config",
        "claim.json",
        "case.json",
        "ticket.json",
        "record-0.json\\n",
        "a/record-0.json",
        "node-.json",
        "x.log/../y.log",
    ],
)
def test_a_name_that_no_node_uses_is_refused(tmp_path, name):
    with pytest.raises(TransferError, match="which no node writes"):
        TransferReceiver(tmp_path / "in").take(line(name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (LINE_PREFIX + "{", "incomplete or damaged"),
        (LINE_PREFIX + "[]", "incomplete or damaged"),
        (line("a.log")[:-20], "incomplete or damaged"),
        (LINE_PREFIX + '{"file": "a.log", "packed": "\\u00e4"}', "incomplete or damaged"),
        (
            LINE_PREFIX + json.dumps({"file": "a.log", "packed": base64.b85encode(b"no zlib").decode()}),
            "transferred file a.log is damaged",
        ),
    ],
    ids=["no JSON", "no object", "cut off", "not ASCII", "not compressed"],
)
def test_a_damaged_line_is_refused(tmp_path, damaged, problem):
    with pytest.raises(TransferError, match=problem):
        TransferReceiver(tmp_path).take(damaged)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_is_refused(tmp_path):
    receiver = TransferReceiver(tmp_path, max_file_bytes=1000)
    with pytest.raises(TransferError, match=r"bomb.log is larger than 1000 bytes"):
        receiver.take(line("bomb.log", bytes(2000)))
    assert list(tmp_path.iterdir()) == []


def test_of_a_file_that_is_too_large_its_size_is_transferred(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with (here / "record-0.json").open("wb") as file:
        file.truncate(2**40)
    (here / "rank-0.log").write_text("said")
    lines = list(encode_folder(here))
    assert max(map(len, lines)) < 200
    receiver = TransferReceiver(there)
    assert [receiver.take(line) for line in lines] == [True, True]
    unreadable: list[str] = []
    assert read_records(there, "record-*.json", RankRecord, unreadable) == []
    assert unreadable == ["rank 0 left a record that can't be read: record-0.json has 1048576 MiB, more than 64"]
    assert (there / "record-0.json").stat().st_blocks == 0


@pytest.mark.parametrize("size", [0, 1, -1, 2**60, "much", None])
def test_a_size_that_makes_no_sense_is_refused(tmp_path, size):
    with pytest.raises(TransferError):
        TransferReceiver(tmp_path).take(LINE_PREFIX + json.dumps({"file": "record-0.json", "bytes": size}))
    assert list(tmp_path.iterdir()) == []


def test_a_node_can_not_fill_the_disk(tmp_path):
    receiver = TransferReceiver(tmp_path, max_total_bytes=2500)
    assert receiver.take(line("rank-0.log", b"x" * 1000))
    assert receiver.take(line("rank-1.log", b"x" * 1000))
    with pytest.raises(TransferError, match=r"rank-2\.log is one too many"):
        receiver.take(line("rank-2.log", b"x" * 1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank-0.log", "rank-1.log"]
