"""Supervises the processes of a trial on one machine: waits until they end or one fails, reports, and ends the rest."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import psutil

from bench.core.case import Role
from bench.core.exit_report import ExitReport, FailedProcess
from bench.host.processes import EXIT_GRACE_S, count_memory_kills, is_stopped, kill_session, pid_alive
from bench.node.stack_dump import HungProcess, dump_stacks
from bench.rank.progress import RankProgress, read_progress

POLL_INTERVAL_S = 0.2


@dataclass(frozen=True)
class WorkerProcess:
    """A process of a role that was started. A launcher (mpirun, torchrun) stands for all ranks that it starts here."""

    role: Role
    number: int
    process: BaseProcess
    log: Path
    launcher: str | None = None
    """The name of the launcher that the process is; ``None``: it is no launcher."""

    @property
    def title(self) -> str:
        """``rank 1``."""
        return f"{self.role.name} {self.number}"


class ControlChannel(Protocol):
    """How a process group learns that it has to end, as :class:`bench.node.control.NodeControl` does."""

    @property
    def descriptors(self) -> Sequence[int]:
        """The file descriptors that become readable with a request."""

    def stop_requested(self) -> bool:
        """Whether an orderly end was requested; does not wait."""


class ExternalRanks:
    """Ranks of this machine that another program starts and ends, known by their progress files in the trial's folder.

    Args:
        folder: The trial's folder.
        ranks: The numbers of the ranks.
    """

    def __init__(self, folder: Path, ranks: Sequence[int]) -> None:
        self.folder, self.ranks = folder, tuple(ranks)

    def progress(self) -> list[RankProgress]:
        """The progress of those that have started."""
        # A progress file that was just created holds no process id yet.
        return [rank for rank in read_progress(self.folder) if rank.rank in self.ranks and rank.pid]

    def is_running(self) -> bool:
        """Whether one of them has not ended, or not started."""
        progress = self.progress()
        return len(progress) < len(self.ranks) or any(pid_alive(rank.pid) for rank in progress)

    def failed(self) -> list[FailedProcess]:
        """Those that have ended without a record."""
        return [
            FailedProcess("rank", rank.rank, None, self.folder / f"rank-{rank.rank}.log", time.time())
            for rank in self.progress()
            if not pid_alive(rank.pid) and not (self.folder / f"record-{rank.rank}.json").exists()
        ]

    def end(self) -> None:
        """Kill those that their launcher has left behind."""
        for rank in self.progress():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(rank.pid)
                # The process id may be another process's by now.
                if str(self.folder) in process.cmdline():
                    process.kill()


class ProcessGroup:
    """The processes of one trial on this machine, which :class:`bench.node.agent.NodeAgent` starts.

    Args:
        folder: The trial's folder.
        external_ranks: The ranks that another program starts, if it does.
    """

    def __init__(self, folder: Path, external_ranks: ExternalRanks | None = None) -> None:
        self.folder, self.external_ranks = folder, external_ranks
        self.workers: list[WorkerProcess] = []
        self.ended = False
        self._began_s: float | None = None
        self._memory_kills = count_memory_kills()

    def add(self, worker: WorkerProcess) -> None:
        """Supervise a process that was started. The time limit of the group counts from the first one."""
        if self._began_s is None:
            self._began_s = time.monotonic()
        self.workers.append(worker)

    def watch(self, timeout_s: float, control: ControlChannel | None = None) -> ExitReport:
        """Wait until all processes but services have ended, one has failed, an end is requested or the time is up.

        Only observers are stopped; :meth:`end` ends the others.

        Args:
            timeout_s: The time limit, in seconds from the start of the first process. A rank that waits as long for
                another one gives up later than that: the group then reports where each rank was.
            control: Where an end may be requested.

        Raises:
            HarnessDisconnected: If ``control`` finds that the harness is gone.
        """
        began_s = time.monotonic() if self._began_s is None else self._began_s
        first_failed, cancelled = self._wait_for_end(began_s + timeout_s, control)
        if first_failed is not None:
            # Others that fail because of it may still report why.
            self._wait_for_exit(self._unfinished_workers(), EXIT_GRACE_S)
        self._stop_observers()
        return self._build_exit_report(first_failed, timeout_s, cancelled=cancelled)

    def _unfinished_workers(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if not worker.role.service and worker.process.is_alive()]

    def _is_running(self) -> bool:
        """Whether there is a process to wait for. Where all are services, the trial ends with them."""
        if self.external_ranks is not None:
            return self.external_ranks.is_running()
        required_workers = [worker for worker in self.workers if not worker.role.observer]
        if all(worker.role.service for worker in required_workers):
            return any(worker.process.is_alive() for worker in required_workers)
        return bool(self._unfinished_workers())

    def _wait_for_end(
        self, deadline: float, control: ControlChannel | None
    ) -> tuple[WorkerProcess | FailedProcess | None, bool]:
        """The first process that failed, if one did, and whether an end was requested."""
        running = [worker for worker in self.workers if not worker.role.observer]
        while self._is_running():
            left = deadline - time.monotonic()
            if left <= 0:
                return None, False
            control_fds: Sequence[int] = control.descriptors if control else ()
            wait_for_any(
                [*(worker.process.sentinel for worker in running), *control_fds],
                timeout=min(left, POLL_INTERVAL_S) if self.external_ranks else left,
            )
            if control is not None and control.stop_requested():
                return None, True
            if self.external_ranks is not None and (failed := self.external_ranks.failed()):
                return failed[0], False
            for worker in [worker for worker in running if not worker.process.is_alive()]:
                running.remove(worker)
                if worker.process.exitcode != 0 or (worker.role.service and self._unfinished_workers()):
                    return worker, False
        return None, False

    def _wait_for_exit(self, workers: list[WorkerProcess], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while workers and (left := deadline - time.monotonic()) > 0:
            wait_for_any([worker.process.sentinel for worker in workers], timeout=left)
            workers = [worker for worker in workers if worker.process.is_alive()]

    def _stop_observers(self) -> None:
        observers = [worker for worker in self.workers if worker.role.observer and worker.process.is_alive()]
        for worker in observers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.process.pid or 0, signal.SIGTERM)
        self._wait_for_exit(observers, EXIT_GRACE_S)

    def _build_exit_report(
        self, first_failed: WorkerProcess | FailedProcess | None, timeout_s: float, *, cancelled: bool
    ) -> ExitReport:
        """The state of the processes before they are ended."""
        if first_failed is None and (cancelled or not self._is_running()):
            return ExitReport(timed_out=False, timeout_s=timeout_s, cancelled=cancelled)
        hung = self._hung()
        failed_workers = [worker for worker in self.workers if not worker.role.observer and worker.process.exitcode]
        failed: list[WorkerProcess | FailedProcess] = [first_failed] if first_failed is not None else []
        failed += [worker for worker in failed_workers if worker is not first_failed]
        return ExitReport(
            timed_out=first_failed is None,
            timeout_s=timeout_s,
            failed=tuple(entry if isinstance(entry, FailedProcess) else _as_failed_process(entry) for entry in failed),
            stopped=tuple(process.title for process in hung if process.stopped),
            stacks=dump_stacks(hung),
            out_of_memory=count_memory_kills() > self._memory_kills,
        )

    def _hung(self) -> list[HungProcess]:
        """The processes that have not ended: ranks, those of launchers too, and services."""
        hung = []
        if self.external_ranks is not None:
            running = [rank for rank in self.external_ranks.progress() if pid_alive(rank.pid)]
            hung += [_hung_rank(rank, self.folder / f"rank-{rank.rank}.log") for rank in running]
        for worker in self.workers:
            pid = worker.process.pid
            if worker.role.observer or pid is None or not worker.process.is_alive():
                continue
            if worker.launcher:
                progress = read_progress(self.folder)
                hung += [_hung_rank(rank, worker.log) for rank in progress if psutil.pid_exists(rank.pid)]
            else:
                hung.append(HungProcess(worker.title, pid, worker.log, is_stopped(pid)))
        return hung

    def end(self) -> None:
        """Kill all processes now, with those that they have started themselves. A second call does nothing."""
        if self.ended:
            return
        self.ended = True
        if self.external_ranks is not None:
            self.external_ranks.end()
        for worker in self.workers:
            if worker.process.pid:
                # The process itself first: if it was just started, it may not lead its session yet.
                worker.process.kill()
                kill_session(worker.process.pid)
        for worker in self.workers:
            worker.process.join()
            worker.process.close()


def _as_failed_process(worker: WorkerProcess) -> FailedProcess:
    role = worker.launcher or worker.role.name
    return FailedProcess(role, worker.number, worker.process.exitcode or 0, worker.log, time.time())


def _hung_rank(progress: RankProgress, log: Path) -> HungProcess:
    return HungProcess(f"rank {progress.rank}", progress.pid, log, is_stopped(progress.pid))
