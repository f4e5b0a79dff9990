"""Archives: our source that goes out, and what comes from elsewhere, of which plain files are taken and no more."""

from __future__ import annotations

import io
import re
import tarfile
import tomllib

import pytest

from harness.sites.sagemaker.archives import RANK_REQUIREMENTS, BadArchive, pack_source, unpack
from tests.support.paths import ROOT
from tests.support.training_jobs import archive_of


def test_the_source_archive_holds_bench_and_names_what_it_needs():
    packed = pack_source()
    assert packed == pack_source(), "the same source gives the same bytes"
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        names = archive.getnames()
        content = archive.extractfile("bench/backends/ddp.py")
        assert content is not None
        assert content.read() == (ROOT / "bench/backends/ddp.py").read_bytes()
    assert {name.split("/")[0] for name in names} == {"bench", "requirements.txt"}
    assert set(RANK_REQUIREMENTS) <= set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    )


def test_files_of_all_hosts_are_unpacked_side_by_side(tmp_path):
    unpack(archive_of(("record-0.json", b"{}"), ("algo-2/record-1.json", b"[]")), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "record-0.json": b"{}",
        "record-1.json": b"[]",
    }


def test_of_the_output_of_a_job_the_files_of_one_trial_are_taken(tmp_path):
    output = [("00-a/record-0.json", b"{}"), ("algo-2/00-a/record-1.json", b"[]"), ("00-b/record-0.json", b"other")]
    unpack(archive_of(*output, ("record-2.json", b"of none")), tmp_path, trial="00-a")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "record-0.json": b"{}",
        "record-1.json": b"[]",
    }


def test_what_no_node_leaves_is_passed_over(tmp_path):
    (tmp_path / "claim.json").write_text("ours")
    others = [(name, b"theirs") for name in ("claim.json", "ssh_config", ".profile", "a b", "sampling-algo-1.lock")]
    unpack(archive_of(*others, ("rank-0.log", b"said")), tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"claim.json": "ours", "rank-0.log": "said"}


def test_pipes_of_killed_ranks_are_passed_over(tmp_path):
    unpack(archive_of(("flight-0.json", None), kind=tarfile.FIFOTYPE), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (archive_of(("../record-0.json", b"{}")), "would be outside the folder"),
        (archive_of(("/etc/cron.d/x", b"{}")), "would be outside the folder"),
        (archive_of(("record-0.json", None), kind=tarfile.SYMTYPE), "not a plain file"),
        (archive_of(("record-0.json", None), kind=tarfile.LNKTYPE), "not a plain file"),
        (archive_of(("device", None), kind=tarfile.CHRTYPE), "not a plain file"),
        (archive_of(("a/progress-0", b"1"), ("b/progress-0", b"2")), "'progress-0' twice"),
        (archive_of(("x", b"12345")), "more than 4 bytes"),
        (io.BytesIO(archive_of(("x", b"1" * 10_000)).getvalue()[:40]), "can't be read"),
        (io.BytesIO(b"<html>"), "can't be read"),
    ],
)
def test_an_archive_that_holds_anything_else_is_refused(tmp_path, archive, said):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(BadArchive, match=re.escape(said)):
        unpack(archive, inside, most_bytes=4 if "more than" in said else 2**20)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
