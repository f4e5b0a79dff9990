"""Whatever a rank left in place of its record, its trial fails with a reason and the harness goes on."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from bench.core.exit_report import ExitReport, NodeReport
from harness.sites.base.rank_files import MAX_RECORD_BYTES
from harness.sites.base.remote import gather_result
from tests.harness.sites.base.test_remote import facts
from tests.support.builders import make_case, make_record

CASE = make_case(ranks=2, ranks_per_node=2)


def whole() -> str:
    return make_record(1, 2).model_dump_json()


def sparse(path: Path) -> None:
    with path.open("w") as file:
        file.truncate(2**30)


SPOILT = {
    "is empty": lambda path: path.touch(),
    "is incomplete or damaged (Invalid JSON: EOF": lambda path: path.write_text(whole()[:100]),
    "is incomplete or damaged (rank: ": lambda path: path.write_text(whole().replace('"rank":1', '"rank":"one"')),
    "is no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    f"has 1024 MiB, more than {MAX_RECORD_BYTES // 2**20}": sparse,
    "is no regular file": lambda path: path.mkdir(),
    "is no regular file ": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("description", SPOILT)
@pytest.mark.parametrize("failed", [(), "rank 0: RuntimeError: closed by peer"])
def test_a_spoilt_record_is_a_failed_trial(tmp_path, description, failed):
    (tmp_path / "record-0.json").write_text(make_record(0, 2).model_dump_json())
    SPOILT[description](tmp_path / "record-1.json")
    if failed:
        error = {"role": "rank", "rank": 0, "host": "h", "error": "RuntimeError: closed by peer", "at": 1.0}
        (tmp_path / "failure-rank-0.json").write_text(str(error).replace("'", '"'))
    used_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = gather_result(tmp_path, CASE, own_report=ended())
    assert result.outcome == "failed"
    assert result.reason.startswith(f"rank 1 left a record that can't be read: record-1.json {description.strip()}")
    assert not failed or result.reason.endswith(f"; then {failed}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used_kib < 256 * 1024


def ended(**more) -> NodeReport:
    return NodeReport(facts=facts(0), exit_report=ExitReport(timed_out=False, timeout_s=9, **more))


def test_a_trial_whose_folder_is_gone_says_so(tmp_path):
    result = gather_result(tmp_path / "gone", CASE, own_report=ended())
    assert (result.outcome, result.reason) == (
        "failed",
        f"the trial's folder {tmp_path / 'gone'} was removed while it ran",
    )


def test_a_full_disk_is_named_beside_what_failed_on_it(tmp_path):
    (tmp_path / "failure-rank-1.json").write_text(
        '{"role": "rank", "rank": 1, "host": "h", "error": "OSError: [Errno 28] No space left on device", "at": 1.0}'
    )
    result = gather_result(tmp_path, CASE, own_report=ended(disk_full=True))
    assert result.reason == f"rank 1: OSError: [Errno 28] No space left on device; the disk of {tmp_path} was full"


def test_a_log_that_was_shortened_is_a_condition(tmp_path):
    for rank in (0, 1):
        (tmp_path / f"record-{rank}.json").write_text(make_record(rank, 2).model_dump_json())
    result = gather_result(tmp_path, CASE, own_report=ended(dropped_log_bytes={"rank 1": 2**30}))
    (condition,) = result.conditions
    assert (result.outcome, condition.name, condition.serious) == ("ok", "noisy_log", False)
    assert condition.seen == "rank 1: 1024 MiB of its output were dropped"
