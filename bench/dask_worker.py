"""What the harness has a kept Dask worker do: describe itself, hold ranks for the length of a trial, let go of them.

Everything comes and goes as text. What a trial leaves on a host lies in one folder there until it is fetched; a watch
over each task ends what it holds as soon as nobody wants it any more: told so, cancelled, or its client gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bench import sampler
from bench.case import Case
from bench.dask_client import Cluster, Tls
from bench.dask_exchange import Abandoned, close_mailbox, mailbox
from bench.dask_holding import VARIABLE, Holding, in_this_thread
from bench.dask_places import PACKAGE, Offer
from bench.identity import Identity
from bench.local import free_port
from bench.machine import read_facts
from bench.parcel import lines_of
from bench.records import RankFailure
from bench.value import Value

LOOK_AGAIN_S = 0.1
LAST_WORDS_S = 5.0
UNWANTED = ("cancelled", "released", "forgotten", "error")
"""States of a task that nobody waits for."""
OF_A_NANNY = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What a worker's nanny sets for Dask's sake; ranks of other sites do without."""


class Errand(Value):
    """What a task is to hold: all ranks of a node as processes, or one rank in the worker's own thread."""

    case: Case
    trial: str
    number: int
    """Of the node, or of the rank."""
    meeting_host: str
    meeting_port: int
    workers: tuple[str, ...]


def describe(address: str, threads: int) -> str:
    """This worker, as the JSON text of an :class:`Offer`."""
    return Offer(address=address, threads=threads, package=PACKAGE, facts=read_facts(0)).model_dump_json()


def describe_worker(dask_worker: Any) -> str:
    return describe(dask_worker.address, dask_worker.state.nthreads)


def port_on(host: str) -> int:
    return free_port(host)


def folder_of(trial: str) -> Path:
    """Of all that a trial leaves on this host, whichever worker it was in."""
    return Path(tempfile.gettempdir()) / f"scaling-{trial}"


def look(trial: str) -> list[str]:
    """What lies in the trial's folder by now, as lines of a parcel."""
    folder = folder_of(trial)
    return list(lines_of(folder)) if folder.is_dir() else []


def clear(trial: str) -> None:
    """Nothing of the trial stays on this host's disk."""
    shutil.rmtree(folder_of(trial), ignore_errors=True)


class Held:
    """Something that a task holds here. ``end``: told to come to an end."""

    def __init__(self, errand: Errand, title: str) -> None:
        import distributed

        worker = distributed.get_worker()
        self.errand, self.title, self.key = errand, title, worker.get_current_task()
        self.tasks: Mapping[str, Any] = worker.state.tasks
        self.end = threading.Event()
        self.holding = Holding(trial=errand.trial, cluster=_cluster_of(worker), workers=errand.workers)

    @property
    def wanted(self) -> bool:
        task = self.tasks.get(self.key)
        return task is not None and task.state not in UNWANTED


_held: set[Held] = set()  # of this worker process; a kept worker outlives what it holds


def end_all(trial: str) -> None:
    """Bring what is held for the trial to an orderly end: its tasks return what they have."""
    for held in list(_held):
        if held.errand.trial == trial:
            held.end.set()


def still_held(trial: str) -> list[str]:
    """Titles of what has not ended yet."""
    return sorted(held.title for held in list(_held) if held.errand.trial == trial)


def _cluster_of(worker: Any) -> Cluster:
    """The worker's own way to its scheduler. Certificates that are no files are left out: nothing but paths is told."""
    found = [worker.security.tls_ca_file, worker.security.tls_worker_cert, worker.security.tls_worker_key]
    paths = [path for path in found if path and "\n" not in path and Path(path).is_file()]
    tls = Tls(ca=paths[0], cert=paths[1], key=paths[2] or paths[1]) if len(paths) == len(found) else None
    return Cluster(address=worker.scheduler.address, tls=tls)


def hold_node(text: str) -> list[str]:
    """The ranks of a node as fresh processes beside this worker, until they are done; returns what they left.

    :mod:`bench.node` starts them, and ends them when this process is gone: it holds the other end of a pipe.
    """
    import distributed

    errand = Errand.model_validate_json(text)
    held = Held(errand, f"node {errand.number}")
    folder = folder_of(errand.trial)
    folder.mkdir(mode=0o700, exist_ok=True)
    distributed.secede()
    _held.add(held)
    try:
        with (folder / f"bench-node-{errand.number}.log").open("w") as log:
            process = _start_node(held, folder, log)
            _wait_for(process, held)
        return list(lines_of(folder))
    finally:
        if not held.wanted:
            clear(errand.trial)
        _held.discard(held)


def _start_node(held: Held, folder: Path, log: IO[str]) -> subprocess.Popen[str]:
    errand = held.errand
    env = {
        **_fresh_environment(),
        "SCALING_NODE": str(errand.number),
        "SCALING_NODES": str(errand.case.nodes),
        "MASTER_ADDR": errand.meeting_host,
        "MASTER_PORT": str(errand.meeting_port),
        VARIABLE: held.holding.model_dump_json(),
    }
    command = [sys.executable, "-m", "bench.node", "--stdio", "--out", str(folder)]
    process = subprocess.Popen(
        command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    print(errand.case.model_dump_json(), file=process.stdin, flush=True)
    return process


def _fresh_environment() -> dict[str, str]:
    """This process's without what Dask put there; the package is found where it was found here."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_NANNY}
    places = [str(Path(__file__).parent.parent), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(places)}


def _wait_for(process: subprocess.Popen[str], held: Held) -> None:
    """Until it ends; told to, it is asked; not wanted any more, it is cut off."""
    assert process.stdin is not None
    asked = False
    while process.poll() is None and held.wanted:
        if held.end.is_set() and not asked:
            asked = True
            with suppress(BrokenPipeError):
                print("end", file=process.stdin, flush=True)
        time.sleep(LOOK_AGAIN_S)
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(LAST_WORDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def hold_rank(text: str) -> list[str]:
    """One rank in a thread of this worker, until it is done; returns what it left.

    It leaves the worker's pool, so that the pool's threads serve the exchange.
    """
    import distributed

    errand = Errand.model_validate_json(text)
    held = Held(errand, f"rank {errand.number}")
    folder = folder_of(errand.trial)
    folder.mkdir(mode=0o700, exist_ok=True)
    distributed.secede()
    _held.add(held)
    mailbox(errand.trial)
    me = _identity(errand)
    watch = threading.Thread(target=_let_go, args=(held, threading.current_thread()), daemon=True)
    watch.start()
    with _sampled(errand, me, folder):
        _play_rank(errand, me, folder, held)
    return list(lines_of(folder))


def _identity(errand: Errand) -> Identity:
    case, here = errand.case, errand.case.ranks_on_a_node
    return Identity(errand.number, case.ranks, errand.number % here, here, errand.meeting_host, errand.meeting_port)


def _play_rank(errand: Errand, me: Identity, folder: Path, held: Held) -> None:
    import torch

    from bench.worker import describe_failure, measure_rank, write

    failures: list[RankFailure] = []
    threads = torch.get_num_threads()
    token = in_this_thread.set(held.holding)
    try:
        write(folder, f"record-{me.rank}.json", measure_rank(errand.case, me, folder, failures.append))
    except Abandoned:
        pass
    except Exception as problem:
        failure = failures[0] if failures else describe_failure("rank", me.rank, problem)
        write(folder, f"failure-rank-{me.rank}.json", failure)
    finally:
        in_this_thread.reset(token)
        torch.set_num_threads(threads)


def _let_go(held: Held, rank: threading.Thread) -> None:
    """When nobody wants the rank any more, or it is told to end: nobody waits in its mailbox. The exchange of a rank
    that is done stays open as long as others may wait for it."""
    while held.wanted and not held.end.is_set():
        time.sleep(LOOK_AGAIN_S)
    mailbox(held.errand.trial).close()
    rank.join()
    while held.wanted:
        time.sleep(LOOK_AGAIN_S)
    close_mailbox(held.errand.trial)
    clear(held.errand.trial)
    _held.discard(held)


@contextmanager
def _sampled(errand: Errand, me: Identity, folder: Path) -> Iterator[None]:
    """The first rank of a host has it sampled, where the case is to be watched."""
    if me.local_rank or errand.case.telemetry == "off":
        yield
        return
    case_file = folder / ".case.json"
    case_file.write_text(errand.case.model_dump_json())
    command = [sys.executable, "-m", "bench.worker", "--case", str(case_file), "--role", sampler.ROLE.name,
               "--out", str(folder)]  # fmt: skip
    process = subprocess.Popen(command, env=_fresh_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
