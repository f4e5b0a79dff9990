"""Whatever a rank left in place of its record, its trial fails with a reason and the harness goes on."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from bench.core.exit_report import ExitReport, FailedProcess, NodeReport
from bench.host.logs import MAX_LOG_BYTES, read_end, shorten_log
from bench.rank.progress import freeze_progress, read_progress
from harness.sites.base.rank_files import MAX_RECORD_BYTES
from harness.sites.base.remote import gather_result
from harness.sites.base.running_trial import read_job_handles
from tests.harness.sites.base.test_remote import facts
from tests.support.builders import make_case, make_record, make_trial

CASE = make_case(ranks=2, ranks_per_node=2)


def whole() -> str:
    return make_record(1, 2).model_dump_json()


def sparse(path: Path) -> None:
    with path.open("w") as file:
        file.truncate(2**30)


def other_record(folder: Path) -> Path:
    """A record of another trial."""
    other = folder / "elsewhere.json"
    other.write_text(whole())
    return other


SPOILT = {
    "is empty": lambda path: path.touch(),
    "is incomplete or damaged (Invalid JSON: EOF": lambda path: path.write_text(whole()[:100]),
    "is incomplete or damaged (rank: ": lambda path: path.write_text(whole().replace('"rank":1', '"rank":"one"')),
    "is no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    f"has 1024 MiB, more than {MAX_RECORD_BYTES // 2**20}": sparse,
    "is no regular file": lambda path: path.mkdir(),
    "is no regular file ": lambda path: os.mkfifo(path),
    "is a symbolic link": lambda path: path.symlink_to(other_record(path.parent)),
    "is a symbolic link ": lambda path: path.symlink_to("/dev/zero"),
    "is incomplete or damaged (Invalid JSON: ": lambda path: path.write_text("[" * 200_000),
    "is incomplete or damaged": lambda path: path.write_text("null"),
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


@pytest.mark.parametrize("description", SPOILT)
def test_a_spoilt_failure_is_a_failed_trial(tmp_path, description):
    for rank in (0, 1):
        (tmp_path / f"record-{rank}.json").write_text(make_record(rank, 2).model_dump_json())
    SPOILT[description](tmp_path / "failure-rank-1.json")
    result = gather_result(tmp_path, CASE, own_report=ended())
    assert result.outcome == "failed"
    assert result.reason.startswith(
        f"rank 1 left a record that can't be read: failure-rank-1.json {description.strip()[:8]}"
    )


@pytest.mark.parametrize("description", SPOILT)
def test_a_spoilt_node_report_is_a_failed_trial(tmp_path, description):
    for rank in (0, 1):
        (tmp_path / f"record-{rank}.json").write_text(make_record(rank, 2).model_dump_json())
    SPOILT[description](tmp_path / "node-0.json")
    result = gather_result(tmp_path, CASE)
    assert (result.outcome, result.reason) == ("failed", "node 0 left a report that can't be read")


def test_a_node_reports_for_itself(tmp_path):
    (tmp_path / "node-1.json").write_text(ended().model_dump_json())
    assert gather_result(tmp_path, CASE).reason == "node 0 left no report"


@pytest.mark.parametrize("description", SPOILT)
def test_a_spoilt_recording_or_progress_file_is_left_out(tmp_path, description):
    for rank in (0, 1):
        (tmp_path / f"record-{rank}.json").write_text(make_record(rank, 2).model_dump_json())
        SPOILT[description](tmp_path / f"progress-{rank}")
        (tmp_path / "elsewhere.json").unlink(missing_ok=True)
    SPOILT[description](tmp_path / "telemetry-0.jsonl")
    result = gather_result(tmp_path, CASE, own_report=ended())
    assert (result.outcome, result.recordings) == ("ok", ())
    assert read_progress(tmp_path) == []
    freeze_progress(tmp_path)


@pytest.mark.parametrize("description", SPOILT)
def test_a_spoilt_job_handle_is_none(tmp_path, description):
    (tmp_path / "00-ab").mkdir()
    SPOILT[description](tmp_path / "00-ab" / "claim.json")
    assert read_job_handles(tmp_path) == {}


def test_a_log_that_became_something_else_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rank-0.log")
    (tmp_path / "rank-1.log").symlink_to("/dev/zero")
    for rank in (0, 1):
        assert read_end(tmp_path / f"rank-{rank}.log") == []
        assert shorten_log(tmp_path / f"rank-{rank}.log") == 0


def test_a_link_in_place_of_a_log_shortens_no_other_file(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    (tmp_path / "rank-0.log").symlink_to(precious)
    assert shorten_log(tmp_path / "rank-0.log") == 0
    assert precious.stat().st_size == MAX_LOG_BYTES + 1


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


@pytest.mark.parametrize(
    "name", [b"record-\xff.json", b"record-\x1b[2J.json", "record-\u202e.json".encode(), b"record-\n.json"]
)
def test_a_file_of_any_name_is_named_in_one_line_that_can_be_stored(tmp_path, name):
    (tmp_path / os.fsdecode(name)).write_text("{}")
    result = gather_result(tmp_path, CASE)
    assert "left a record that can't be read" in result.reason
    assert result.reason.isprintable()
    assert make_trial(CASE, outcome="failed", reason=result.reason, log_tail=result.log_tail).model_dump_json()


@pytest.mark.parametrize("log", ["/etc/passwd", "claim.json", "..", "ssh_config", "rank-0.log\n"])
def test_a_node_names_no_file_but_a_log(tmp_path, log):
    for file in ("claim.json", "ssh_config", "passwd"):
        (tmp_path / file).write_text("kept to ourselves")
    failed = FailedProcess("rank", 0, 1, Path(log))
    report = NodeReport(facts=facts(0), exit_report=ExitReport(timed_out=False, timeout_s=9, failed=(failed,)))
    (tmp_path / report.file).write_text(report.model_dump_json())
    result = gather_result(tmp_path, CASE)
    assert result.outcome == "failed"
    assert not [line for line in result.log_tail if "kept" in line]
