"""Asks ranks that do not end for their flight records (:mod:`bench.rank.flight_recorder`), and waits for them."""

from __future__ import annotations

import os
import pickle
import re
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.core.flight_record import FlightRecord
from bench.core.frozen_model import write_model
from bench.host.regular_files import open_regular
from bench.rank.flight_recorder import PIPE_PREFIX, WATCHDOG_PREFIX, read_trace, record_file, request_pipe, send_request

WAIT_S = 1.0
POLL_INTERVAL_S = 0.02
MAX_DUMP_BYTES = 2**26
RANK_TITLE = re.compile(r"\Arank ([0-9]{1,7})\Z")
NUMBER = re.compile("[0-9]{1,7}")


def request_flight_records(folder: Path, titles: Collection[str], before_ns: int) -> list[int]:
    """Have ranks of this machine write their flight records; returns the numbers of those that read the request.

    A rank that is stopped by a signal reads it when it goes on.

    Args:
        folder: The trial's folder.
        titles: Those of the processes, such as ``rank 1``; processes of other roles have no such records.
        before_ns: What began later is left out, in nanoseconds since the Unix epoch.
    """
    ranks = [int(number) for title in titles for number in RANK_TITLE.findall(title)]
    return [rank for rank in ranks if send_request(request_pipe(folder, rank), f"{before_ns}\n".encode())]


def wait_for_flight_records(folder: Path, ranks: Collection[int], wait_s: float = WAIT_S) -> None:
    """Wait until ranks have written their flight records, at most ``wait_s`` seconds."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline and not all(record_file(folder, rank).exists() for rank in ranks):
        time.sleep(POLL_INTERVAL_S)


def remove_request_pipes(folder: Path) -> None:
    """Remove the pipes of ranks that were killed, from a folder that no other node uses, before it is packed."""
    with suppress(OSError):
        for pipe in folder.glob(f"{PIPE_PREFIX}*"):
            if pipe.is_fifo():
                pipe.unlink(missing_ok=True)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, tuples, texts and numbers: a pickle that names anything to be called is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def convert_watchdog_dumps(folder: Path) -> None:
    """Write the flight records of ranks that could not, from the dumps that NCCL's watchdog left."""
    for dump in folder.glob(f"{WATCHDOG_PREFIX}*"):
        number = dump.name.removeprefix(WATCHDOG_PREFIX)
        if not NUMBER.fullmatch(number) or record_file(folder, rank := int(number)).exists():
            continue
        # The rank itself wrote it. Errors are those of any damaged pickle.
        with suppress(Exception), open_regular(dump) as file:
            if os.fstat(file.fileno()).st_size <= MAX_DUMP_BYTES:
                entries = read_trace(_PlainUnpickler(file).load())
                write_model(folder, record_file(folder, rank).name, FlightRecord(rank=rank, entries=entries))
