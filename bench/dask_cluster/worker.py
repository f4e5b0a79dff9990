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

from bench.backends.dask.cluster_ref import CLUSTER_REF_VARIABLE, ClusterRef, SchedulerAddress, Tls, thread_cluster_ref
from bench.backends.dask.exchange import close_mailbox, mailbox
from bench.backends.dask.rank_tasks import RankTask, measure_in_thread
from bench.core.rank_info import RankInfo
from bench.node.transfer import encode_folder
from bench.telemetry import sampler

POLL_INTERVAL_S = 0.1
EXIT_GRACE_S = 5.0
UNNEEDED_STATES = ("cancelled", "released", "forgotten", "error")
"""States of a task that nobody waits for."""
NANNY_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What a worker's nanny sets for Dask's sake; ranks of other sites do without."""


def trial_folder(trial: str) -> Path:
    """Of all that a trial leaves on this host, whichever worker it was in."""
    return Path(tempfile.gettempdir()) / f"scaling-{trial}"


def read_trial_folder(trial: str) -> list[str]:
    """What lies in the trial's folder by now, as lines of a parcel."""
    folder = trial_folder(trial)
    return list(encode_folder(folder)) if folder.is_dir() else []


def remove_trial_folder(trial: str) -> None:
    """Nothing of the trial stays on this host's disk."""
    shutil.rmtree(trial_folder(trial), ignore_errors=True)


class ActiveTask:
    """Something that a task holds here. ``end``: told to come to an end."""

    def __init__(self, rank_task: RankTask, title: str) -> None:
        import distributed

        worker = distributed.get_worker()
        self.rank_task, self.title, self.key = rank_task, title, worker.get_current_task()
        self.tasks: Mapping[str, Any] = worker.state.tasks
        self.end = threading.Event()
        self.cluster_ref = ClusterRef(
            trial=rank_task.trial, cluster=_scheduler_address(worker), workers=rank_task.workers
        )

    @property
    def is_needed(self) -> bool:
        task = self.tasks.get(self.key)
        return task is not None and task.state not in UNNEEDED_STATES


_active_tasks: set[ActiveTask] = set()  # of this worker process; a kept worker outlives what it holds


def end_trial_tasks(trial: str) -> None:
    """Bring what is held for the trial to an orderly end: its tasks return what they have."""
    for active_task in list(_active_tasks):
        if active_task.rank_task.trial == trial:
            active_task.end.set()


def active_task_titles(trial: str) -> list[str]:
    """Titles of what has not ended yet."""
    return sorted(active_task.title for active_task in list(_active_tasks) if active_task.rank_task.trial == trial)


def _scheduler_address(worker: Any) -> SchedulerAddress:
    """The worker's own way to its scheduler. Certificates that are no files are left out: nothing but paths is told."""
    pem_values = [worker.security.tls_ca_file, worker.security.tls_worker_cert, worker.security.tls_worker_key]
    paths = [path for path in pem_values if path and "\n" not in path and Path(path).is_file()]
    tls = Tls(ca=paths[0], cert=paths[1], key=paths[2] or paths[1]) if len(paths) == len(pem_values) else None
    return SchedulerAddress(address=worker.scheduler.address, tls=tls)


def run_node(text: str) -> bool:
    """The ranks of a node as fresh processes beside this worker, until they are done; returns whether none failed.

    :mod:`bench.node.agent` starts them, and ends them when this process is gone: it holds the other end of a pipe.
    """
    import distributed

    rank_task = RankTask.model_validate_json(text)
    active_task = ActiveTask(rank_task, f"node {rank_task.number}")
    folder = trial_folder(rank_task.trial)
    folder.mkdir(mode=0o700, exist_ok=True)
    distributed.secede()
    _active_tasks.add(active_task)
    try:
        with (folder / f"bench-node-{rank_task.number}.log").open("w") as log:
            process = _start_node(active_task, folder, log)
            _wait_for(process, active_task)
        return process.returncode == 0
    finally:
        if not active_task.is_needed:
            remove_trial_folder(rank_task.trial)
        _active_tasks.discard(active_task)


def _start_node(active_task: ActiveTask, folder: Path, log: IO[str]) -> subprocess.Popen[str]:
    rank_task = active_task.rank_task
    env = {
        **_child_environment(),
        "SCALING_NODE": str(rank_task.number),
        "SCALING_NODES": str(rank_task.case.nodes),
        "MASTER_ADDR": rank_task.rendezvous_host,
        "MASTER_PORT": str(rank_task.rendezvous_port),
        CLUSTER_REF_VARIABLE: active_task.cluster_ref.model_dump_json(),
    }
    command = [sys.executable, "-m", "bench.node.agent", "--stdio", "--services-provided", "--out", str(folder)]
    process = subprocess.Popen(
        command,
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )
    assert process.stdin is not None
    print(rank_task.case.model_dump_json(), file=process.stdin, flush=True)
    return process


def _child_environment() -> dict[str, str]:
    """This process's without what Dask put there; the package is found where it was found here."""
    inherited = {name: value for name, value in os.environ.items() if name not in NANNY_VARIABLES}
    import_paths = [str(Path(__file__).parents[2]), *filter(None, [inherited.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(import_paths)}


def _wait_for(process: subprocess.Popen[str], active_task: ActiveTask) -> None:
    """Until it ends; told to, it is asked; not wanted any more, it is cut off."""
    assert process.stdin is not None
    end_requested = False
    while process.poll() is None and active_task.is_needed:
        if active_task.end.is_set() and not end_requested:
            end_requested = True
            with suppress(BrokenPipeError):
                print("end", file=process.stdin, flush=True)
        time.sleep(POLL_INTERVAL_S)
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(EXIT_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_rank(text: str) -> bool:
    """One rank in a thread of this worker, until it is done; returns whether it did not fail.

    It leaves the worker's pool, so that the pool's threads serve the exchange.
    """
    import distributed

    rank_task = RankTask.model_validate_json(text)
    active_task = ActiveTask(rank_task, f"rank {rank_task.number}")
    folder = trial_folder(rank_task.trial)
    folder.mkdir(mode=0o700, exist_ok=True)
    distributed.secede()
    _active_tasks.add(active_task)
    mailbox(rank_task.trial)
    me = _rank_info(rank_task)
    watch = threading.Thread(target=_release_when_unneeded, args=(active_task, threading.current_thread()), daemon=True)
    watch.start()
    with _sampling(rank_task, me, folder):
        return _measure(rank_task, me, folder, active_task)


def _rank_info(rank_task: RankTask) -> RankInfo:
    case, ranks_per_node = rank_task.case, rank_task.case.ranks_on_a_node
    return RankInfo(
        rank_task.number,
        case.ranks,
        rank_task.number % ranks_per_node,
        ranks_per_node,
        rank_task.rendezvous_host,
        rank_task.rendezvous_port,
    )


def _measure(rank_task: RankTask, me: RankInfo, folder: Path, active_task: ActiveTask) -> bool:
    import torch

    threads = torch.get_num_threads()
    token = thread_cluster_ref.set(active_task.cluster_ref)
    try:
        return measure_in_thread(rank_task, me, folder)
    finally:
        thread_cluster_ref.reset(token)
        torch.set_num_threads(threads)


def _release_when_unneeded(active_task: ActiveTask, rank: threading.Thread) -> None:
    """When nobody wants the rank any more, or it is told to end: nobody waits in its mailbox. The exchange of a rank
    that is done stays open as long as others may wait for it."""
    while active_task.is_needed and not active_task.end.is_set():
        time.sleep(POLL_INTERVAL_S)
    mailbox(active_task.rank_task.trial).close()
    rank.join()
    while active_task.is_needed:
        time.sleep(POLL_INTERVAL_S)
    close_mailbox(active_task.rank_task.trial)
    remove_trial_folder(active_task.rank_task.trial)
    _active_tasks.discard(active_task)


@contextmanager
def _sampling(rank_task: RankTask, me: RankInfo, folder: Path) -> Iterator[None]:
    """The first rank of a host has it sampled, where the case is to be watched."""
    if me.local_rank or rank_task.case.telemetry == "off":
        yield
        return
    case_file = folder / ".case.json"
    case_file.write_text(rank_task.case.model_dump_json())
    command = [
        sys.executable,
        "-m",
        "bench.rank.worker",
        "--case",
        str(case_file),
        "--role",
        sampler.ROLE.name,
        "--out",
        str(folder),
    ]
    process = subprocess.Popen(
        command,
        env=_child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
