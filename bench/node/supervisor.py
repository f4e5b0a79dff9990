"""The processes of a trial on one machine: started, watched until the first ends badly, ended with all they started."""

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
    """One started process of a role; a launcher (mpirun, torchrun) stands for all the ranks that it starts here."""

    role: Role
    number: int
    process: BaseProcess
    log: Path
    launcher: str | None = None

    @property
    def title(self) -> str:
        return f"{self.role.name} {self.number}"


class ControlChannel(Protocol):
    """Whoever may tell a crew to end: a file descriptor to wait for, and what is read there."""

    @property
    def descriptors(self) -> Sequence[int]: ...

    def stop_requested(self) -> bool: ...


class ExternalRanks:
    """Ranks of this machine that somebody else starts and ends: known by the notes they keep in the trial's folder."""

    def __init__(self, folder: Path, ranks: Sequence[int]) -> None:
        self.folder, self.ranks = folder, tuple(ranks)

    def progress(self) -> list[RankProgress]:
        # A note that has just been begun names no process yet.
        return [one for one in read_progress(self.folder) if one.rank in self.ranks and one.pid]

    def is_running(self) -> bool:
        """Whether one of them still lives, or has not begun."""
        progress = self.progress()
        return len(progress) < len(self.ranks) or any(pid_alive(one.pid) for one in progress)

    def failed(self) -> list[FailedProcess]:
        """Those that have gone without their record."""
        return [
            FailedProcess("rank", one.rank, None, self.folder / f"rank-{one.rank}.log", time.time())
            for one in self.progress()
            if not pid_alive(one.pid) and not (self.folder / f"record-{one.rank}.json").exists()
        ]

    def end(self) -> None:
        """End those that whoever started them has left behind."""
        for one in self.progress():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(one.pid)
                # The number may be another process's by now.
                if str(self.folder) in process.cmdline():
                    process.kill()


class ProcessGroup:
    """The processes of one trial on this machine."""

    def __init__(self, folder: Path, external_ranks: ExternalRanks | None = None) -> None:
        self.folder, self.external_ranks = folder, external_ranks
        self.workers: list[WorkerProcess] = []
        self.ended = False
        self._memory_kills = count_memory_kills()

    def watch(self, timeout_s: float, control: ControlChannel | None = None) -> ExitReport:
        """Wait until all but the services are done, one ends badly, ``orders`` say so or the time is up. Nothing is
        ended but the observers."""
        first_failed, dismissed = self._wait_for_end(time.monotonic() + timeout_s, control)
        if first_failed is not None:
            # Whoever fails next because of it may still say so.
            self._wait_for_exit(self._unfinished_workers(), EXIT_GRACE_S)
        self._stop_observers()
        return self._build_exit_report(first_failed, timeout_s, cancelled=dismissed)

    def _unfinished_workers(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if not worker.role.service and worker.process.is_alive()]

    def _is_running(self) -> bool:
        """Whether there is somebody to wait for. Where there are only services, their own end is the end."""
        if self.external_ranks is not None:
            return self.external_ranks.is_running()
        required_workers = [worker for worker in self.workers if not worker.role.observer]
        if all(worker.role.service for worker in required_workers):
            return any(worker.process.is_alive() for worker in required_workers)
        return bool(self._unfinished_workers())

    def _wait_for_end(
        self, deadline: float, control: ControlChannel | None
    ) -> tuple[WorkerProcess | FailedProcess | None, bool]:
        """The first process that ended badly, if one did, and whether the crew was told to end."""
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
        """What there is to see before everything is ended."""
        if first_failed is None and (cancelled or not self._is_running()):
            return ExitReport(timed_out=False, timeout_s=timeout_s, cancelled=cancelled)
        hung = self._hung()
        failed_workers = [worker for worker in self.workers if not worker.role.observer and worker.process.exitcode]
        ended: list[WorkerProcess | FailedProcess] = [one for one in (first_failed,) if one is not None]
        ended += [worker for worker in failed_workers if worker is not first_failed]
        return ExitReport(
            timed_out=first_failed is None,
            timeout_s=timeout_s,
            failed=tuple(one if isinstance(one, FailedProcess) else _as_failed_process(one) for one in ended),
            stopped=tuple(one.title for one in hung if one.stopped),
            stacks=dump_stacks(hung),
            out_of_memory=count_memory_kills() > self._memory_kills,
        )

    def _hung(self) -> list[HungProcess]:
        """Every rank that is still there, and whatever else the backend started; the ranks of a launcher too."""
        found = []
        if self.external_ranks is not None:
            found += [_hung(one, self.folder) for one in self.external_ranks.progress() if pid_alive(one.pid)]
        for worker in self.workers:
            pid = worker.process.pid
            if worker.role.observer or pid is None or not worker.process.is_alive():
                continue
            if worker.launcher:
                found += [
                    HungProcess(f"rank {one.rank}", one.pid, worker.log, is_stopped(one.pid))
                    for one in read_progress(self.folder)
                    if psutil.pid_exists(one.pid)
                ]
            else:
                found.append(HungProcess(worker.title, pid, worker.log, is_stopped(pid)))
        return found

    def end(self) -> None:
        """End all of it now, whatever the processes have started themselves included."""
        if self.ended:
            return
        self.ended = True
        if self.external_ranks is not None:
            self.external_ranks.end()
        for worker in self.workers:
            if worker.process.pid:
                # By itself first: it may be so young that it leads no session yet.
                worker.process.kill()
                kill_session(worker.process.pid)
        for worker in self.workers:
            worker.process.join()
            worker.process.close()


def _as_failed_process(worker: WorkerProcess) -> FailedProcess:
    role = worker.launcher or worker.role.name
    return FailedProcess(role, worker.number, worker.process.exitcode or 0, worker.log, time.time())


def _hung(one: RankProgress, folder: Path) -> HungProcess:
    return HungProcess(f"rank {one.rank}", one.pid, folder / f"rank-{one.rank}.log", is_stopped(one.pid))
