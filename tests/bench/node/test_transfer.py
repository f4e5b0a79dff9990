"""Files as lines: they come out as they went in, and nothing else comes out."""

from __future__ import annotations

import base64
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.node import transfer
from bench.node.transfer import LINE_PREFIX, TransferError, TransferReceiver, encode_folder


def line(name: object, content: bytes = b"x") -> str:
    return LINE_PREFIX + json.dumps({"file": name, "packed": base64.b85encode(zlib.compress(content)).decode()})


@settings(deadline=None)
@given(st.binary())
def test_what_goes_in_comes_out(content):
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
def test_what_nodes_leave_is_taken(tmp_path, name):
    assert TransferReceiver(tmp_path).take(line(name))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_folders_links_and_what_is_nodes_own_stay_behind(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in (".hidden", "case.json", "sampling-n1.lock"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert list(encode_folder(tmp_path)) == []


def test_other_lines_are_not_ours(tmp_path):
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
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(TransferError, match="with the name"):
        TransferReceiver(tmp_path / "in").take(line(name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damaged",
    [
        LINE_PREFIX + "{",
        LINE_PREFIX + "[]",
        line("a.log")[:-20],
        LINE_PREFIX + '{"file": "a.log", "packed": "\\u00e4"}',
        LINE_PREFIX + json.dumps({"file": "a.log", "packed": base64.b85encode(b"no zlib").decode()}),
    ],
)
def test_a_damaged_line_is_refused(tmp_path, damaged):
    with pytest.raises(TransferError):
        TransferReceiver(tmp_path).take(damaged)
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_FILE_BYTES", 1000)
    with pytest.raises(TransferError, match="larger than 1000"):
        TransferReceiver(tmp_path).take(line("bomb.log", bytes(2000)))
    assert list(tmp_path.iterdir()) == []
