"""The client of one trial on a Dask cluster that exists: assigns the ranks, waits for them, fetches their files.

    python -m bench.dask_cluster.trial --case case.json --out FOLDER < cluster.json

The first line of standard input is the cluster's :class:`SchedulerAddress` as JSON; the line ``end`` asks for an
orderly end. When standard input is closed, the harness is gone: this process ends, the scheduler releases its tasks,
and the workers end what these hold.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.backends.dask.backend import DASK_CONFIG
from bench.backends.dask.cluster_ref import SchedulerAddress
from bench.backends.dask.options import exchange_mode
from bench.backends.dask.rank_tasks import RankTasks
from bench.core.case import Case
from bench.core.exit_report import ExitReport, NodeReport
from bench.core.frozen_model import FrozenModel, write_model
from bench.dask_cluster.assignment import Assignment, UnsuitableCluster, assign, ranks_in_workers, read_worker_infos
from bench.dask_cluster.client import SchedulerUnreachable, connect, pickles_allowed, refuse_pickles
from bench.dask_cluster.worker import (
    active_task_titles,
    end_trial_tasks,
    read_trial_folder,
    remove_trial_folder,
    run_node,
    run_rank,
)
from bench.node.control import HarnessDisconnected, NodeControl
from bench.node.transfer import TransferReceiver
from bench.rank.progress import read_progress

POLL_INTERVAL_S = 0.05
WORKER_CHECK_INTERVAL_S = 0.5
TRIAL_EXIT_GRACE_S = 8.0
"""How long the other ranks of a trial may take to end once one has failed; a node agent takes some of it."""
NODE_TIMEOUT_MARGIN_S = 15.0
"""Node agents keep a trial's time; the client waits this much longer for their reports."""
LOG_LINES = 10
CLIENT_REPORT_FILE = "dask.json"


class ClientReport(FrozenModel):
    """What the client reports besides the files of ranks and nodes."""

    problem: str | None = None
    """Why no rank was started, or what has not ended."""
    log_tail: tuple[str, ...] = ()


class DaskTrial:
    """The ranks of one case on the workers that they are assigned to.

    Args:
        client: From :func:`bench.dask_cluster.client.connect`.
        case: What is measured.
        out: The folder that the files of ranks and nodes are fetched to.
        assignment: The workers of each node, from :func:`bench.dask_cluster.assignment.assign`.
    """

    def __init__(self, client: Any, case: Case, out: Path, assignment: Assignment) -> None:
        self.client, self.case, self.out, self.assignment = client, case, out, assignment
        self.name = secrets.token_hex(8)
        self.by_tasks = ranks_in_workers(case)
        self.workers = tuple(worker for node_workers in assignment for worker in node_workers)
        self.task_workers = self.workers if self.by_tasks else tuple(node_workers[0] for node_workers in assignment)
        """The worker of each task: one a rank, or one a node."""
        self.tasks = RankTasks(client, case, self.name, pickles_allowed)
        self.lost: set[str] = set()
        """Addresses of workers that have left the cluster."""
        self._next_check = 0.0

    @property
    def failed(self) -> bool:
        """Whether a rank has failed, or a worker of the trial has left."""
        return bool(self.lost) or self.tasks.failed

    def start(self) -> None:
        """Submit the tasks that run the ranks."""
        addresses = [worker.address for worker in self.workers]
        task_addresses = [worker.address for worker in self.task_workers]
        if self.by_tasks:
            self.tasks.submit(run_rank, task_addresses, addresses)
            self.tasks.submit_exchange(addresses, exchange_mode(self.case))
        else:
            holders = [[worker.pid for worker in of_node if worker.pid is not None] for of_node in self.assignment]
            self.tasks.submit(run_node, task_addresses, addresses, holders=holders)

    def watch(self, control: NodeControl) -> ExitReport:
        """Wait for the ranks and take home what they have written.

        When one has failed, its worker has left or the time is up, the others are asked to end, and may take
        :data:`TRIAL_EXIT_GRACE_S` for it. Raises :class:`bench.node.control.HarnessDisconnected`.
        """
        timeout_s = self.case.timeout_s + (0.0 if self.by_tasks else NODE_TIMEOUT_MARGIN_S)
        self._wait(lambda: self.failed or control.stop_requested(), timeout_s)
        unfinished = bool(self.tasks.pending())
        stacks = self._stacks() if unfinished else {}
        if unfinished:
            self._fetch_files()
            self._run_on(end_trial_tasks, self.name, of=self._present_addresses())
            self._wait(lambda: not self._reachable(), TRIAL_EXIT_GRACE_S)
        self._fetch_files()
        exit_report = ExitReport(timed_out=unfinished and not self.failed, timeout_s=self.case.timeout_s, stacks=stacks)
        self._write_node_reports(exit_report)
        return exit_report

    def _wait(self, should_stop: Callable[[], bool], timeout_s: float) -> None:
        """Until all tasks are done, ``should_stop()``, or the time is up. Notes which workers leave meanwhile."""

        def check() -> bool:
            self._find_lost_workers()
            return should_stop()

        self.tasks.watch(check, deadline=time.monotonic() + timeout_s, interval_s=POLL_INTERVAL_S)

    def _find_lost_workers(self) -> None:
        if time.monotonic() >= self._next_check:
            present = self.client.nthreads()
            self.lost |= {worker.address for worker in self.workers if worker.address not in present}
            self._next_check = time.monotonic() + WORKER_CHECK_INTERVAL_S

    def _reachable(self) -> list[int]:
        """Numbers of the tasks that are not done and whose worker is there."""
        return [number for number in self.tasks.pending() if self.task_workers[number].address not in self.lost]

    def _fetch_files(self) -> None:
        """Take home what the trial has written on its hosts by now."""
        receiver = TransferReceiver(self.out)
        for lines in self._run_on(read_trial_folder, self.name, of=self._one_worker_per_host()).values():
            for line in lines:
                receiver.take(line)

    def _stacks(self) -> dict[str, list[str]]:
        """Stacks of the ranks in workers' threads, the latest call first; node agents send those of processes."""
        if not self.by_tasks:
            return {}
        pending = {self.tasks.futures[number].key: number for number in self._reachable()}
        found: dict[str, list[str]] = {}
        for tasks in (self.client.call_stack(keys=list(pending)) if pending else {}).values():
            for key, frames in tasks.items():
                lines = [line for frame in reversed(frames) for line in frame.rstrip().splitlines()]
                found[f"rank {pending[key]}"] = lines
        return found

    def _write_node_reports(self, exit_report: ExitReport) -> None:
        """Write the reports that no node agent writes: of ranks in workers' threads, of a node that lost a worker."""
        for node, node_workers in enumerate(self.assignment):
            facts = node_workers[0].facts.model_copy(update={"node": node})
            report = NodeReport(facts=facts, exit_report=exit_report, problem=self._lost_worker_on(node))
            if report.problem or self.by_tasks:
                write_model(self.out, report.file, report)

    def _lost_worker_on(self, node: int) -> str | None:
        """``worker tcp://10.0.0.3:40123 has left the cluster; it held rank 1 in measured step 17``."""
        progress_by_rank = {progress.rank: progress.description for progress in read_progress(self.out)}
        ranks_per_node = self.case.ranks_on_a_node
        for index, worker in enumerate(self.assignment[node]):
            if worker.address not in self.lost:
                continue
            ranks = (
                [node * ranks_per_node + index]
                if self.by_tasks
                else list(range(node * ranks_per_node, (node + 1) * ranks_per_node))
            )
            rank_texts = ", ".join(f"rank {rank} {progress_by_rank.get(rank, 'that had not begun')}" for rank in ranks)
            ranks_note = f"; it held {rank_texts}" if self.by_tasks or not index else ""
            return f"worker {worker.address} has left the cluster{ranks_note}"
        return None

    def end(self) -> str | None:
        """Release the tasks and remove the trial's files from its hosts; returns what has not ended, if anything."""
        self.tasks.cancel()
        deadline = time.monotonic() + TRIAL_EXIT_GRACE_S
        while (leftover := self._running_titles()) and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        self._run_on(remove_trial_folder, self.name, of=self._one_worker_per_host())
        return f"{leftover}: restart that worker" if leftover else None

    def _running_titles(self) -> str:
        titles_by_worker = self._run_on(active_task_titles, self.name, of=self._present_addresses())
        return next(
            (f"{titles[0]} still runs in worker {address}" for address, titles in titles_by_worker.items() if titles),
            "",
        )

    def log_tail(self) -> tuple[str, ...]:
        """The last lines of the workers' logs, the oldest first."""
        lines = []
        for address, entries in self.client.get_worker_logs(n=LOG_LINES, workers=self._present_addresses()).items():
            lines += [f"worker {address}: {line}" for _, text in reversed(entries) for line in text.splitlines()]
        return tuple(lines)

    def _present_addresses(self) -> list[str]:
        return [worker.address for worker in self.workers if worker.address not in self.lost]

    def _one_worker_per_host(self) -> list[str]:
        present = {
            worker.facts.host_and_boot: worker.address for worker in self.workers if worker.address not in self.lost
        }
        return list(present.values())

    def _run_on(self, function: Callable[..., Any], *arguments: Any, of: Sequence[str]) -> dict[str, Any]:
        """Call a function in the workers at these addresses; returns the results by address, without errors."""
        if not of:
            return {}
        results: dict[str, Any] = self.client.run(function, *arguments, workers=list(of), on_error="ignore")
        return results


def run(cluster: SchedulerAddress, case: Case, out: Path, control: NodeControl) -> ClientReport:
    """Run a case on the cluster; the files of its ranks and nodes are in ``out`` afterwards.

    Raises :class:`bench.node.control.HarnessDisconnected`.
    """
    import dask

    try:
        with dask.config.set(DASK_CONFIG), connect(cluster) as client:
            trial = DaskTrial(client, case, out, assign(case, read_worker_infos(client)))
            try:
                trial.start()
                exit_report = trial.watch(control)
                log_tail = () if exit_report.succeeded and not trial.failed else trial.log_tail()
            finally:
                leftover = trial.end()
            return ClientReport(problem=leftover, log_tail=log_tail)
    except (SchedulerUnreachable, UnsuitableCluster) as problem:
        return ClientReport(problem=str(problem))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.dask_cluster.trial", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--case", type=Path, required=True, help="file with the case as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files of ranks and nodes")
    chosen = parser.parse_args(arguments)
    control = NodeControl(listen=True)
    refuse_pickles()
    try:
        cluster = SchedulerAddress.model_validate(control.read_first_line())
        report = run(cluster, Case.model_validate_json(chosen.case.read_text()), chosen.out, control)
    except HarnessDisconnected:
        return 1
    write_model(chosen.out, CLIENT_REPORT_FILE, report)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Dask's helper threads are not waited for: the report is written by now.
    os._exit(code)
