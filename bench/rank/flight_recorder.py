"""PyTorch's flight recorder: what it has recorded of this rank's collectives, written when the node agent asks for it.

The recorder keeps the last 2,000 operations of each process group's backend. PyTorch 2.13 records by itself, over NCCL
and gloo (``TORCH_FR_BUFFER_SIZE``); from 2.5 on NCCL's recorder is switched on by ``TORCH_NCCL_TRACE_BUFFER_SIZE``.
Nothing is added to what a step costs: a thread waits at a named pipe for the time of a request, in nanoseconds since
the Unix epoch, and writes ``flight-<rank>.json``. It can't where the hanging thread holds Python's interpreter lock;
NCCL's watchdog, which writes a dump when a collective exceeds PyTorch's own limit, needs no lock
(``TORCH_FR_DUMP_TEMP_FILE``, before ``TORCH_NCCL_DEBUG_INFO_TEMP_FILE``).
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.core.bounds import MAX_COUNT
from bench.core.flight_record import DEFAULT_GROUP, MAX_NAME_LENGTH, FlightEntry, FlightRecord
from bench.core.frozen_model import write_model
from bench.core.text import one_line
from bench.host.ownership import FOLDER_VARIABLE

C10D = "torch._C._distributed_c10d"
DUMPS = ("_dump_nccl_trace_json", "_dump_fr_trace_json")
"""What NCCL's recorder and that of other backends have recorded, in the order in which they are asked."""
BUFFER_ENTRIES = 2000
KEPT_DONE, KEPT_PENDING = 16, 32
"""The operations of a group that are kept: the last ones, and the first ones that are not done."""
MAX_REQUEST_BYTES = 64
END_REQUEST = b"end\n"
WATCHDOG_PREFIX, PIPE_PREFIX = "watchdog-", "flight-request-"
NUMBER = re.compile(r"[0-9]{1,20}")


def request_pipe(folder: Path, rank: int) -> Path:
    """Where a rank is asked for its flight record."""
    return folder / f"{PIPE_PREFIX}{rank}"


def record_file(folder: Path, rank: int) -> Path:
    """The file of a rank's flight record."""
    return folder / f"flight-{rank}.json"


def recorder_variables(env: Mapping[str, str], folder: Path, *, generic: bool) -> dict[str, str]:
    """The variables to set, none of which the user has set (pure).

    Args:
        env: The environment of the rank.
        folder: The trial's folder.
        generic: This PyTorch's recorder is that of all backends, and records by itself.
    """
    wanted = {"TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
    sizes, files = ("FR_BUFFER_SIZE", "NCCL_TRACE_BUFFER_SIZE"), ("FR_DUMP_TEMP_FILE", "NCCL_DEBUG_INFO_TEMP_FILE")
    if not generic and not any(f"TORCH_{name}" in env for name in sizes):
        wanted["TORCH_NCCL_TRACE_BUFFER_SIZE"] = str(BUFFER_ENTRIES)
    if not any(f"TORCH_{name}" in env for name in files):
        # The newer PyTorch warns of the older name.
        wanted[f"TORCH_{files[0 if generic else 1]}"] = str(folder / WATCHDOG_PREFIX)
    return {name: value for name, value in wanted.items() if name not in env}


@contextmanager
def answering_requests(folder: Path, rank: int) -> Iterator[None]:
    """A context in which a thread of this process answers requests for its flight record.

    Where named pipes can't be made there are no requests. A process may measure for several trials, one after the
    other: the thread ends with the context.
    """
    pipe = request_pipe(folder, rank)
    with suppress(OSError):
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe, 0o600)
        # Open for writing too: without a writer a pipe is at its end, and reading would not wait.
        requests = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)
        threading.Thread(target=_answer, args=(requests, folder, rank), name="flight-recorder", daemon=True).start()
    try:
        yield
    finally:
        # By its name: a program may have closed the descriptor, whose number then is another file's.
        send_request(pipe, END_REQUEST)
        with suppress(OSError):
            pipe.unlink(missing_ok=True)


def send_request(pipe: Path, request: bytes) -> bool:
    """Write to a named pipe without waiting; returns whether a process reads from it."""
    with suppress(OSError):
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return stat.S_ISFIFO(os.fstat(descriptor).st_mode) and os.write(descriptor, request) > 0
        finally:
            os.close(descriptor)
    return False


def _answer(requests: int, folder: Path, rank: int) -> None:
    with suppress(OSError), os.fdopen(requests, "rb", buffering=0) as pipe:
        while (request := pipe.read(MAX_REQUEST_BYTES)) and END_REQUEST not in request:
            if asked_ns := NUMBER.match(request.decode(errors="replace")):
                write_flight_record(folder, rank, int(asked_ns[0]))


def write_flight_record(folder: Path, rank: int, before_ns: int | None = None, *, timed_out: bool = False) -> None:
    """Write what this process has recorded, where it uses torch.distributed; errors cost no trial.

    Args:
        folder: The trial's folder.
        rank: The number of this rank.
        before_ns: Operations that began later are left out: a rank that was stopped has gone on since.
        timed_out: An operation has exceeded its own time limit. Gloo retires it as one that is done.
    """
    try:
        record = read_recorder(rank, sys.modules.get(C10D), before_ns)
        if timed_out and record.entries and all(entry.done for entry in record.entries):
            last = record.entries[-1].model_copy(update={"done": False})
            record = record.model_copy(update={"entries": (*record.entries[:-1], last)})
    except Exception as problem:  # a dump of another version's making
        record = FlightRecord(rank=rank, reason=one_line(f"the flight recorder can't be read: {problem}", 200))
    with suppress(OSError, MemoryError):
        write_model(folder, record_file(folder, rank).name, record)


def read_recorder(rank: int, c10d: Any, before_ns: int | None = None) -> FlightRecord:
    """The flight record of this process.

    Args:
        rank: The number of this rank.
        c10d: PyTorch's module ``torch._C._distributed_c10d``; ``None``: it is not loaded.
        before_ns: See :func:`write_flight_record`.
    """
    if c10d is None:
        return FlightRecord(rank=rank, reason="the rank does not use torch.distributed")
    dumps = [getattr(c10d, name) for name in DUMPS if hasattr(c10d, name)]
    if not dumps:
        return FlightRecord(rank=rank, reason="this PyTorch has no flight recorder")
    entries = tuple(entry for dump in dumps for entry in read_trace(json.loads(dump()), before_ns))
    return FlightRecord(rank=rank, entries=entries)


def read_trace(trace: Any, before_ns: int | None = None) -> tuple[FlightEntry, ...]:
    """The operations in a dump of the flight recorder that matter for a hang, the oldest first (pure).

    Args:
        trace: The document, from JSON or from PyTorch's pickle.
        before_ns: See :func:`write_flight_record`.

    Raises:
        KeyError, TypeError, ValueError: If it has another form.
    """
    by_group: dict[tuple[str, bool], list[FlightEntry]] = {}
    for fields in trace.get("entries", ()):
        if before_ns is None or int(fields["time_created_ns"]) <= before_ns:
            entry = _entry(fields)
            by_group.setdefault((entry.group, entry.collective), []).append(entry)
    return tuple(entry for own in by_group.values() for entry in _kept(own))


def _kept(entries: list[FlightEntry]) -> Iterator[FlightEntry]:
    # A group's operations end in their order: those that a CUDA graph was captured with never do in the recorder.
    ended = max((number for number, entry in enumerate(entries) if entry.done), default=-1) + 1
    kept = {*range(ended, len(entries))[:KEPT_PENDING], *range(max(0, len(entries) - KEPT_DONE), len(entries))}
    return (entries[number].model_copy(update={"done": number < ended}) for number in sorted(kept))


def _entry(fields: Mapping[str, Any]) -> FlightEntry:
    library, _, operation = str(fields["profiling_name"]).partition(":")
    name, description = fields["process_group"]
    collective = not fields["is_p2p"]
    return FlightEntry(
        group=_short(description if description == DEFAULT_GROUP else name),
        operation=_short(operation or library),
        sequence=min(MAX_COUNT, int(fields["collective_seq_id" if collective else "p2p_seq_id"])),
        tensors=_short(", ".join(_tensors(fields))),
        collective=collective,
        # Gloo's operations are retired when they are done and stay "scheduled". NCCL's are "completed" then; one that
        # is retired without it exceeded its time limit.
        done=fields["state"] == "completed" or (bool(fields["retired"]) and library != "nccl"),
    )


def _tensors(fields: Mapping[str, Any]) -> Iterator[str]:
    for kind, shape in zip(fields["input_dtypes"][:2], fields["input_sizes"][:2], strict=False):
        yield f"{kind} {list(shape)}"


def _short(text: Any) -> str:
    return one_line(str(text), MAX_NAME_LENGTH)


def set_recorder_variables(env: MutableMapping[str, str] = os.environ) -> None:
    """Set :func:`recorder_variables` in this process, before it joins a process group; PyTorch is loaded."""
    if folder := env.get(FOLDER_VARIABLE):
        generic = hasattr(sys.modules.get(C10D), "_dump_fr_trace_json")
        env.update(recorder_variables(env, Path(folder), generic=generic))
