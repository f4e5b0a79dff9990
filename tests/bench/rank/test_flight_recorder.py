"""What is read from PyTorch's flight recorder, from documents in its form and from ranks that really hang."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from bench.core.flight_record import FlightRecord, explain_hang
from bench.host.ownership import FOLDER_VARIABLE
from bench.node.flight_records import (
    convert_watchdog_dumps,
    record_file,
    remove_request_pipes,
    request_flight_records,
    wait_for_flight_records,
)
from bench.rank.flight_recorder import (
    C10D,
    answering_requests,
    read_recorder,
    read_trace,
    recorder_variables,
    request_pipe,
    write_flight_record,
)
from tests.support.paths import ROOT


def operation(sequence, *, name="nccl:all_reduce", state="completed", retired=True, **changes):
    """An entry in the form of version 2.10."""
    base = {
        "collective_seq_id": sequence,
        "p2p_seq_id": 0,
        "is_p2p": False,
        "process_group": ["0", "default_pg"],
        "input_dtypes": ["Float"],
        "input_sizes": [[784, 10]],
        "time_created_ns": sequence,
    }
    return {**base, "profiling_name": name, "state": state, "retired": retired, **changes}


def read(*operations, **arguments):
    return read_trace({"version": "2.10", "entries": operations}, **arguments)


def test_an_entry_is_read():
    (entry,) = read(operation(5, name="nccl:_reduce_oop"))
    assert (entry.group, entry.operation, entry.sequence, entry.tensors, entry.collective, entry.done) == (
        "default_pg",
        "_reduce_oop",
        5,
        "Float [784, 10]",
        True,
        True,
    )


@pytest.mark.parametrize(
    ("name", "state", "retired", "done"),
    [
        ("nccl:all_reduce", "completed", True, True),
        ("nccl:all_reduce", "completed", False, True),
        ("nccl:all_reduce", "started", True, False),  # the watchdog gave up on it
        ("nccl:all_reduce", "scheduled", False, False),
        ("gloo:all_reduce", "scheduled", True, True),  # the state of gloo's does not change
        ("gloo:all_reduce", "scheduled", False, False),
    ],
)
def test_what_is_done(name, state, retired, done):
    (entry,) = read(operation(1, name=name, state=state, retired=retired))
    assert entry.done == done


def test_other_groups_go_by_their_names_and_transfers_by_their_own_numbers():
    (group,) = read(operation(1, process_group=["dp_1", "undefined"]))
    assert group.group == "dp_1"
    (transfer,) = read(operation(1, is_p2p=True, p2p_seq_id=3, name="nccl:send 0->1"))
    assert (transfer.collective, transfer.sequence, transfer.operation) == (False, 3, "send 0->1")


def test_what_began_after_the_request_is_left_out():
    assert [entry.sequence for entry in read(operation(1), operation(2), operation(3), before_ns=2)] == [1, 2]


def test_the_last_ones_and_the_first_pending_ones_are_kept():
    pending = [operation(number, state="scheduled", retired=False) for number in range(200, 400)]
    done = [operation(number) for number in range(100)]
    kept = [entry.sequence for entry in read(*done, *pending)]
    assert kept == [*range(200, 232), *range(384, 400)]
    assert [entry.sequence for entry in read(*done)] == list(range(84, 100))


def test_collectives_that_a_graph_was_captured_with_do_not_wait():
    """They are recorded once and never end there, whatever is done after them."""
    captured = [operation(number, state="scheduled", retired=False) for number in (2, 3)]
    now = operation(5, state="scheduled", retired=False)
    assert [entry.done for entry in read(operation(1), *captured, operation(4), now)] == [True, True, True, True, False]


def test_texts_are_short_and_a_dump_without_entries_is_none():
    (entry,) = read(operation(1, name="nccl:" + "x" * 10**6, input_sizes=[[1] * 10**5]))
    assert len(entry.operation) == len(entry.tensors) == 80
    assert read_trace({"version": "2.10"}) == ()


@pytest.mark.parametrize("generic", [True, False])
def test_both_recorders_are_read_where_both_are_there(generic):
    dumps = {"_dump_nccl_trace_json": lambda: json.dumps({"entries": [operation(1)]})}
    if generic:
        dumps["_dump_fr_trace_json"] = lambda: json.dumps({"entries": [operation(7, name="gloo:barrier")]}).encode()
    names = [entry.operation for entry in read_recorder(0, SimpleNamespace(**dumps)).entries]
    assert names == (["all_reduce", "barrier"] if generic else ["all_reduce"])


def test_why_there_is_no_record():
    assert read_recorder(0, None).reason == "the rank does not use torch.distributed"
    assert read_recorder(0, SimpleNamespace()).reason == "this PyTorch has no flight recorder"


def test_variables_that_the_user_has_set_stay(tmp_path):
    prefix = str(tmp_path / "watchdog-")
    assert recorder_variables({}, tmp_path, generic=True) == {
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": prefix,
    }
    assert recorder_variables({}, tmp_path, generic=False) == {
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": prefix,
    }
    user = {"TORCH_FR_BUFFER_SIZE": "0", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": "/x", "TORCH_NCCL_DUMP_ON_TIMEOUT": "0"}
    for generic in (True, False):
        assert recorder_variables(user, tmp_path, generic=generic) == {}


class Runs:
    def __reduce__(self):
        return os.mkdir, ("run",)


def test_dumps_of_the_watchdog_are_read_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trace = {"entries": [operation(4, state="started", process_group=("0", "default_pg"))]}
    (tmp_path / "watchdog-0").write_bytes(pickle.dumps(trace, protocol=2))
    (tmp_path / "watchdog-1").write_bytes(pickle.dumps(Runs()))
    (tmp_path / "watchdog-2").write_bytes(pickle.dumps(trace)[:40])
    os.mkfifo(tmp_path / "watchdog-3")
    (tmp_path / "watchdog-x").write_bytes(b"")
    convert_watchdog_dumps(tmp_path)
    assert [path.name for path in tmp_path.glob("flight-*")] == ["flight-0.json"]
    record = FlightRecord.model_validate_json(record_file(tmp_path, 0).read_text())
    assert [(entry.sequence, entry.done) for entry in record.entries] == [(4, False)]
    assert not (tmp_path / "run").exists()


def test_who_does_not_read_is_not_waited_for(tmp_path):
    os.mkfifo(request_pipe(tmp_path, 0))
    request_pipe(tmp_path, 1).write_text("no pipe")
    titles = ["rank 0", "rank 1", "rank 2", "mpirun", "sampler 0"]
    assert request_flight_records(tmp_path, titles, time.time_ns()) == []
    reader = os.open(request_pipe(tmp_path, 0), os.O_RDONLY | os.O_NONBLOCK)
    assert request_flight_records(tmp_path, titles, 1234) == [0]
    assert os.read(reader, 100) == b"1234\n"
    os.close(reader)
    assert request_pipe(tmp_path, 1).read_text() == "no pipe"


def test_a_process_answers_while_it_measures_for_a_trial_and_not_afterwards(tmp_path):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "flight-recorder"]

    with answering_requests(tmp_path, 5):
        (thread,) = threads()
        for _ in range(2):
            record_file(tmp_path, 5).unlink(missing_ok=True)
            assert request_flight_records(tmp_path, ["rank 5"], time.time_ns()) == [5]
            wait_for_flight_records(tmp_path, [5], wait_s=30)
            assert FlightRecord.model_validate_json(record_file(tmp_path, 5).read_text()).rank == 5
    thread.join(30)
    assert threads() == []
    assert [path.name for path in tmp_path.iterdir()] == ["flight-5.json"]
    assert request_flight_records(tmp_path, ["rank 5"], time.time_ns()) == []


@pytest.mark.parametrize("retired", [True, False])
def test_gloo_retires_what_exceeded_its_time_limit(tmp_path, monkeypatch, retired):
    entries = [
        operation(1, name="gloo:broadcast"),
        operation(2, name="gloo:all_reduce", state="scheduled", retired=retired),
    ]
    c10d = SimpleNamespace(_dump_fr_trace_json=lambda: json.dumps({"entries": entries}))
    monkeypatch.setitem(sys.modules, C10D, c10d)
    for timed_out in (False, True):
        write_flight_record(tmp_path, 0, timed_out=timed_out)
        record = FlightRecord.model_validate_json(record_file(tmp_path, 0).read_text())
        assert [entry.done for entry in record.entries] == [True, retired and not timed_out]


def test_pipes_of_ranks_that_were_killed_are_removed_and_nothing_else(tmp_path):
    os.mkfifo(request_pipe(tmp_path, 0))
    (tmp_path / "flight-request-notes").write_text("a user's")
    remove_request_pipes(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["flight-request-notes"]
    remove_request_pipes(tmp_path / "missing")


def test_a_trial_without_pipes_has_no_requests(tmp_path):
    with answering_requests(tmp_path / "missing", 0):
        assert request_flight_records(tmp_path / "missing", ["rank 0"], time.time_ns()) == []


RANK = """
import os, sys, time
from datetime import timedelta
from pathlib import Path
import torch, torch.distributed as dist
from bench.rank.flight_recorder import answering_requests, set_recorder_variables
folder, rank = Path(sys.argv[1]), int(sys.argv[2])
answering = answering_requests(folder, rank)
answering.__enter__()
set_recorder_variables()
assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == str(folder / "watchdog-")
store = dist.FileStore(str(folder / "store"), 2)
dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
x = torch.ones(8)
dist.all_reduce(x)
dist.broadcast(x, 0)
(folder / f"here-{rank}").touch()
if rank == 1:
    time.sleep(60)
dist.all_reduce(x)
"""


def ask_ranks(folder):
    for rank in range(2):
        record_file(folder, rank).unlink(missing_ok=True)
    asked = request_flight_records(folder, ["rank 0", "rank 1"], time.time_ns())
    wait_for_flight_records(folder, asked, wait_s=30)
    records = [FlightRecord.model_validate_json(record_file(folder, rank).read_text()) for rank in range(2)]
    return explain_hang(records, (0, 1))


@pytest.mark.frameworks
def test_a_rank_that_hangs_over_gloo_is_named_by_its_last_collective(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", FOLDER_VARIABLE: str(tmp_path)}
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(tmp_path), str(rank)], env=env) for rank in range(2)]
    try:
        found, deadline = None, time.monotonic() + 60
        while found is None and time.monotonic() < deadline:
            time.sleep(0.1)
            if len(list(tmp_path.glob("here-*"))) == len(ranks):
                found = ask_ranks(tmp_path)
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    assert found == (
        "rank 0 waits in all_reduce (collective 3), which rank 1 has not begun: its last one was "
        "broadcast (collective 2)"
    )
