"""What runs in the workers of a Dask cluster that exists: tasks that hold ranks, and functions that end them.

A trial's files lie in one folder on each host until the client fetches them. What a task holds ends when the client
asks for it, and when the task is cancelled or its client is gone.
"""

from __future__ import annotations

import os
import shutil
import stat
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
from bench.core.case import SAMPLER_ROLE
from bench.core.frozen_model import write_model
from bench.core.names import check_name, path_inside
from bench.core.rank_info import RankInfo
from bench.core.records import RankFailure
from bench.host.machine import host_name
from bench.host.ownership import holders_environment, starter_environment
from bench.host.processes import describe_status, process_state
from bench.host.resources import pin_threads, usable_cores
from bench.node.launchers.base import worker_command
from bench.node.transfer import encode_folder

POLL_INTERVAL_S = 0.1
CHILD_EXIT_GRACE_S = 5.0
"""How long a node agent or a sampler may take to end; the agent ends its ranks meanwhile."""
UNNEEDED_STATES = ("cancelled", "released", "forgotten", "error")
"""States of a task that no client waits for."""
NANNY_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that a worker's nanny sets; ranks run without them, as on other sites."""


def trial_folder(trial: str) -> Path:
    """The folder of a trial's files on this host, the same for all its workers.

    Raises :class:`bench.core.names.UnsafeName` where a message from elsewhere names another folder.
    """
    return path_inside(Path(tempfile.gettempdir()), f"scaling-{check_name(trial)}")


def make_trial_folder(trial: str) -> Path:
    """:func:`trial_folder`, made by this worker or by another one of its user; nobody else can enter it.

    Raises:
        PermissionError: Something that others can change is in its place: they read the trial's name on the command
            lines of other hosts.
    """
    folder = trial_folder(trial)
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError(f"{folder} was made by somebody else: remove it, or set TMPDIR to a folder of your own")
    return folder


def read_trial_folder(trial: str) -> list[str]:
    """The files of the trial on this host, as lines of a transfer."""
    folder = trial_folder(trial)
    return list(encode_folder(folder)) if folder.is_dir() else []


def remove_trial_folder(trial: str) -> None:
    """Remove the trial's files from this host."""
    shutil.rmtree(trial_folder(trial), ignore_errors=True)


class ActiveTask:
    """A task of this worker that holds ranks. ``end`` is set when they are asked to end."""

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
        """Whether a client waits for the task."""
        task = self.tasks.get(self.key)
        return task is not None and task.state not in UNNEEDED_STATES


_active_tasks: set[ActiveTask] = set()  # a worker outlives its trials


def end_trial_tasks(trial: str) -> None:
    """Ask the trial's ranks in this worker to end in good order."""
    for active_task in list(_active_tasks):
        if active_task.rank_task.trial == trial:
            active_task.end.set()


def active_task_titles(trial: str) -> list[str]:
    """Titles of the trial's tasks that hold something in this worker: ``rank 3``, ``node 0``."""
    return sorted(active_task.title for active_task in list(_active_tasks) if active_task.rank_task.trial == trial)


def _scheduler_address(worker: Any) -> SchedulerAddress:
    """The address by which this worker reaches its scheduler, with its certificates where they are files."""
    pem_values = [worker.security.tls_ca_file, worker.security.tls_worker_cert, worker.security.tls_worker_key]
    paths = [path for path in pem_values if path and "\n" not in path and Path(path).is_file()]
    tls = Tls(ca=paths[0], cert=paths[1], key=paths[2] or paths[1]) if len(paths) == len(pem_values) else None
    return SchedulerAddress(address=worker.scheduler.address, tls=tls)


def run_node(text: str) -> bool:
    """A task: run the ranks of a node as processes beside this worker; returns whether none failed.

    :mod:`bench.node.agent` starts them, and ends them when this worker is gone, whose end closes a pipe.
    """
    import distributed

    rank_task = RankTask.model_validate_json(text)
    active_task = ActiveTask(rank_task, f"node {rank_task.number}")
    folder = make_trial_folder(rank_task.trial)
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
        **holders_environment(rank_task.holders),
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
    """This worker's environment without what Dask added, so that a child imports this same package."""
    inherited = {name: value for name, value in os.environ.items() if name not in NANNY_VARIABLES}
    import_paths = [str(Path(__file__).parents[2]), *filter(None, [inherited.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(import_paths), "PYTHONSAFEPATH": "1"}


def _wait_for(process: subprocess.Popen[str], active_task: ActiveTask) -> None:
    """Wait for the end of a node agent; forward a request to end, and end it when its task is not needed any more."""
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
        process.wait(CHILD_EXIT_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_rank(text: str) -> bool:
    """A task: run one rank in a thread of this worker; returns whether it did not fail.

    The thread leaves the worker's pool, so that the pool's threads serve the exchange.
    """
    import distributed

    rank_task = RankTask.model_validate_json(text)
    active_task = ActiveTask(rank_task, f"rank {rank_task.number}")
    folder = make_trial_folder(rank_task.trial)
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
        # The rank pinned this process, which outlives it.
        pin_threads(usable_cores())


def _release_when_unneeded(active_task: ActiveTask, rank: threading.Thread) -> None:
    """Close the rank's mailbox when its task is not needed any more or it is asked to end, then clean up.

    The exchange of a rank that is done stays open as long as its task is needed: other ranks may wait for it."""
    while active_task.is_needed and not active_task.end.is_set():
        time.sleep(POLL_INTERVAL_S)
    mailbox(active_task.rank_task.trial).close()
    rank.join()
    while active_task.is_needed:
        time.sleep(POLL_INTERVAL_S)
    close_mailbox(active_task.rank_task.trial)
    remove_trial_folder(active_task.rank_task.trial)
    _active_tasks.discard(active_task)


def _lost_observer(process: subprocess.Popen[bytes]) -> str | None:
    """What became of a sampler that does not sample any more; ``None``: it does."""
    if process.poll() is not None:
        return f"it {describe_status(process.returncode)} before the ranks ended"
    return "it was stopped by a signal" if process_state(process.pid) == "stopped" else None


@contextmanager
def _sampling(rank_task: RankTask, me: RankInfo, folder: Path) -> Iterator[None]:
    """Run the sampler beside the first rank of a host, where the case has telemetry."""
    if me.local_rank or rank_task.case.telemetry == "off":
        yield
        return
    case_file = folder / ".case.json"
    case_file.write_text(rank_task.case.model_dump_json())
    command = worker_command(sys.executable, str(case_file), str(folder), SAMPLER_ROLE.name)
    node = rank_task.case.node_of_rank(me.rank)
    process = subprocess.Popen(
        command,
        env={**_child_environment(), "RANK": str(node), **starter_environment(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        if (lost := _lost_observer(process)) is not None:
            failure = RankFailure(role=SAMPLER_ROLE.name, rank=node, host=host_name(), error=lost, at=time.time())
            with suppress(OSError):
                write_model(folder, f"failure-{failure.role}-{node}.json", failure)
        process.terminate()
        try:
            process.wait(CHILD_EXIT_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
