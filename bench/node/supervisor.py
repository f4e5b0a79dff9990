"""Supervises the processes of a trial on one machine: waits until they end or one fails, reports, and ends the rest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Protocol

from bench.core.exit_report import FORKSERVER, ExitReport, FailedProcess
from bench.host.memory_kills import read_memory_kills
from bench.host.processes import EXIT_GRACE_S, cpu_limit_s, kill_session, process_state
from bench.node.external_ranks import ExternalRanks
from bench.node.flight_records import convert_watchdog_dumps, request_flight_records, wait_for_flight_records
from bench.node.forked import join_within_limit
from bench.node.guardian import ForkserverWatch
from bench.node.observer import TrialObserver
from bench.node.stack_dump import HungProcess, dump_stacks
from bench.node.transfer import remove_other_files
from bench.node.trial_processes import TrialProcesses
from bench.node.worker_process import WorkerProcess, stop_observers, wait_for_exit
from bench.rank.progress import freeze_progress, read_progress

POLL_INTERVAL_S = 0.2
UNTOLD_STATUS = 255
"""What multiprocessing takes for the exit status of a process whose forkserver has ended."""
CHECK_INTERVAL_S = 1.0
"""How often the states of processes, the clocks and the sizes of logs are looked at."""


class ControlChannel(Protocol):
    """How a process group learns that it has to end, as :class:`bench.node.control.NodeControl` does."""

    @property
    def descriptors(self) -> Sequence[int]:
        """The file descriptors that become readable with a request."""

    def stop_requested(self) -> bool:
        """Whether an orderly end was requested; does not wait."""


class ProcessGroup:
    """The processes of one trial on this machine, which :class:`bench.node.node_agent.NodeAgent` starts.

    Args:
        folder: The trial's folder.
        external_ranks: The ranks that another program starts, if it does.
    """

    def __init__(self, folder: Path, external_ranks: ExternalRanks | None = None) -> None:
        self.folder, self.external_ranks = folder, external_ranks
        self.workers: list[WorkerProcess] = []
        self.ended = False
        self._began_s: float | None = None
        self._memory_kills = read_memory_kills()
        self._observer = TrialObserver(folder)
        self.trial_processes = TrialProcesses()
        self._forkserver: ForkserverWatch | None = None
        self._launched_ranks: dict[str, ExternalRanks] = {}  # by the title of their launcher's process
        self._ended_at: dict[str, float] = {}  # by title

    def add(self, worker: WorkerProcess) -> None:
        """Supervise a process that was started. The time limit of the group counts from the first one."""
        if self._began_s is None:
            self._began_s = time.monotonic()
            self._observer.start()
            self._forkserver = ForkserverWatch()
        self.workers.append(worker)
        if worker.launcher:
            self._launched_ranks[worker.title] = ExternalRanks(self.folder, range(worker.role.count), worker.log)

    def watch(self, timeout_s: float, control: ControlChannel | None = None) -> ExitReport:
        """Wait until all processes but services have ended, one has failed, an end is requested or the time is up.

        It also ends where this machine or this process was suspended, since the trial's times are worth nothing then,
        and where a process has been stopped by a signal for too long. Only observers are stopped; :meth:`end` ends the
        others.

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
            wait_for_exit(self._unfinished_workers(), EXIT_GRACE_S, self._note_ends)
        lost_observers = stop_observers([worker for worker in self.workers if worker.role.observer])
        report = self._build_exit_report(first_failed, timeout_s, cancelled=cancelled)
        sessions = [worker.process.pid for worker in self.workers if worker.process.pid]
        left_running = self.trial_processes.left_running(sessions)
        return replace(report, lost_observers=lost_observers, left_running=left_running)

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
        interval_s = CHECK_INTERVAL_S
        while self._is_running():
            left = deadline - time.monotonic()
            if left <= 0:
                return None, False
            control_fds: Sequence[int] = control.descriptors if control else ()
            timeout_s = min(left, POLL_INTERVAL_S if self.external_ranks else interval_s)
            wait_for_any([*(worker.process.sentinel for worker in running), *control_fds], timeout=timeout_s)
            self._look()
            if control is not None and control.stop_requested():
                return None, True
            if self._observer.suspensions():
                return None, False
            if self.external_ranks is not None and (failed := self.external_ranks.failed()):
                return failed[0], False
            if (first := self._take_failed(running)) is not None:
                return first, False
            if lost := self._lost_launched_ranks():
                return lost[0], False
            if self._observer.stopped_too_long:
                return None, False
            interval_s = POLL_INTERVAL_S if self._shorten_logs() else CHECK_INTERVAL_S
        # Those that ended last, after the others were looked at.
        return self._take_failed(running), False

    def _take_failed(self, running: list[WorkerProcess]) -> WorkerProcess | None:
        """Take those that have ended from the list, until one has failed."""
        self._note_ends()
        for worker in [worker for worker in running if not worker.process.is_alive()]:
            running.remove(worker)
            if self._has_failed(worker):
                return worker
        return None

    def _has_failed(self, worker: WorkerProcess) -> bool:
        """Whether a process that has ended should not have ended so: a rank leaves a record before it does."""
        if worker.process.exitcode != 0 or (worker.role.service and bool(self._unfinished_workers())):
            return True
        is_rank = worker.role.name == "rank" and worker.launcher is None
        return is_rank and self.folder.is_dir() and not (self.folder / f"record-{worker.number}.json").exists()

    def _note_ends(self) -> None:
        for worker in self.workers:
            if not worker.process.is_alive():
                self._ended_at.setdefault(worker.title, time.time())

    def _lost_launched_ranks(self) -> list[FailedProcess]:
        """The ranks that have ended without a record while their launcher runs: it may take one that exits with status
        0 for a rank that is done."""
        alive = [worker.title for worker in self.workers if worker.launcher and worker.process.is_alive()]
        if not self.folder.is_dir():
            return []
        return [lost for title in alive for lost in self._launched_ranks[title].failed()]

    def _look(self) -> None:
        helpers = self._helpers()
        self._observer.look(
            {process.title: process.stopped for process in self._processes()},
            {title: state == "stopped" for title, pid in helpers.items() if (state := process_state(pid)) != "ended"},
        )

    def _helpers(self) -> dict[str, int]:
        """The process ids of launchers and of the forkserver, by title: they give no stacks, and a rank does without
        them for a while."""
        pids = {worker.launcher: worker.process.pid or 0 for worker in self.workers if worker.launcher}
        if self._forkserver is not None and self._forkserver.pid is not None:
            pids[FORKSERVER] = self._forkserver.pid
        return pids

    def _shorten_logs(self) -> bool:
        logs = {worker.title: worker.log for worker in self.workers}
        if self.external_ranks is not None:
            logs |= {f"rank {rank}": self.folder / f"rank-{rank}.log" for rank in self.external_ranks.ranks}
        return self._observer.shorten_logs(logs)

    def _build_exit_report(
        self, first_failed: WorkerProcess | FailedProcess | None, timeout_s: float, *, cancelled: bool
    ) -> ExitReport:
        """The state of the processes before they are ended."""
        self._shorten_logs()
        # Twice: the second look tells whether what was stopped before the first one runs again, or has ended.
        self._look()
        self._look()
        succeeded = first_failed is None and not cancelled and not self._is_running()
        if suspended := self._observer.suspensions(succeeded=succeeded):
            return ExitReport(timed_out=False, timeout_s=timeout_s, suspended=suspended, cancelled=cancelled)
        if succeeded or (cancelled and first_failed is None):
            return ExitReport(
                timed_out=False,
                timeout_s=timeout_s,
                cancelled=cancelled,
                dropped_log_bytes=self._observer.dropped_log_bytes,
            )
        hung, memory = list(self._processes()), read_memory_kills()
        stopped_at = self._observer.stopped_at()
        stopped = tuple(stopped_at)
        if stopped:
            # They go on for a moment, to give their stacks.
            freeze_progress(self.folder)
        return ExitReport(
            timed_out=first_failed is None and not self._observer.stopped_too_long,
            timeout_s=timeout_s,
            failed=self._failed_processes(first_failed),
            stopped=stopped,
            stopped_at=stopped_at,
            stacks=self._examine(hung),
            out_of_memory=memory.kills > self._memory_kills.kills,
            memory_limit=memory.limit_description,
            cpu_limit_s=cpu_limit_s(),
            disk_full=self._observer.disk_full,
            dropped_log_bytes=self._observer.dropped_log_bytes,
        )

    def _examine(self, hung: Sequence[HungProcess]) -> dict[str, list[str]]:
        """Have ranks that hang write their flight records; returns the stacks of all."""
        asked_ns = time.time_ns()
        running = [process.title for process in hung if not process.stopped]
        wait_for_flight_records(self.folder, request_flight_records(self.folder, running, asked_ns))
        # Those that are stopped answer when they go on for their stacks; then others that wait for them go on too.
        stopped = [process.title for process in hung if process.stopped]
        asked = request_flight_records(self.folder, stopped, asked_ns)
        stacks = dump_stacks(hung)
        wait_for_flight_records(self.folder, asked)
        convert_watchdog_dumps(self.folder)
        return stacks

    def _failed_processes(self, first_failed: WorkerProcess | FailedProcess | None) -> tuple[FailedProcess, ...]:
        """What has failed, the first one first."""
        # Nobody tells how the processes of a forkserver ended that the kernel has killed with it.
        untold = isinstance(first_failed, WorkerProcess) and first_failed.process.exitcode == UNTOLD_STATUS
        if untold and self._forkserver is not None and (status := self._forkserver.exit_status()) is not None:
            return (FailedProcess(FORKSERVER, 0, status, Path(os.devnull), time.time()),)
        failed = [first_failed] if isinstance(first_failed, FailedProcess) else []
        known = {process.title for process in failed}
        failed += [lost for lost in self._lost_launched_ranks() if lost.title not in known]
        failed += [
            self._as_failed_process(worker)
            for worker in self.workers
            if worker is first_failed
            or (not (worker.role.observer or worker.process.is_alive()) and self._has_failed(worker))
        ]
        return tuple(sorted(failed, key=lambda process: process.at))

    def _as_failed_process(self, worker: WorkerProcess) -> FailedProcess:
        role, at = worker.launcher or worker.role.name, self._ended_at.get(worker.title, time.time())
        return FailedProcess(role, worker.number, worker.process.exitcode or 0, worker.log, at)

    def _processes(self) -> Iterator[HungProcess]:
        """The processes that have not ended: ranks, those of launchers too, and services."""
        pids: list[tuple[str, int, Path]] = []
        if self.external_ranks is not None:
            progress = self.external_ranks.progress()
            pids += [(f"rank {rank.rank}", rank.pid, self.folder / f"rank-{rank.rank}.log") for rank in progress]
        for worker in self.workers:
            if worker.role.observer or worker.process.pid is None or not worker.process.is_alive():
                continue
            if worker.launcher:
                pids += [(f"rank {rank.rank}", rank.pid, worker.log) for rank in read_progress(self.folder)]
            else:
                pids.append((worker.title, worker.process.pid, worker.log))
        for title, pid, log in pids:
            # By the kernel: the forkserver tells of an end a moment later.
            if (state := process_state(pid)) != "ended":
                yield HungProcess(title, pid, log, stopped=state == "stopped")

    def end(self) -> None:
        """Kill all processes now, with those that they have started themselves. A second call does nothing."""
        if self.ended:
            return
        self.ended = True
        self._observer.stop()
        if self.external_ranks is not None:
            self.external_ranks.end()
        for worker in self.workers:
            if worker.process.pid:
                # The process itself first: if it was just started, it may not lead its session yet.
                worker.process.kill()
                if not self.trial_processes.complete:
                    kill_session(worker.process.pid)
        self.trial_processes.end()
        join_within_limit([worker.process for worker in self.workers])
        for worker in self.workers:
            worker.process.close()
        if self._observer.disk_full:
            remove_other_files(self.folder)
