"""This machine: every rank is a process forked from a warm parent; MPI ranks are started by mpirun."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from bench.local import find_mpirun, free_port
from bench.nursery import Birth, bear, warm_up
from bench.records import Case, Outcome, RankFailure, RankRecord, Role
from harness.sites import Ending, Job, Site

KILL_ROUNDS = 20
LAST_WORDS_S = 2.0
STACKS_S = 0.5
TAIL_LINES = 20
STACK_LINES = 120
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Member:
    """One started process of a role; for MPI it is mpirun, which stands for all its ranks."""

    role: Role
    number: int
    process: BaseProcess
    log: Path

    @property
    def title(self) -> str:
        return f"{self.role.name} {self.number}"


def variables(role: Role, number: int, port: int) -> dict[str, str]:
    """The environment of one process (pure). Everything meets on the loopback interface."""
    return {
        "RANK": str(number),
        "WORLD_SIZE": str(role.count),
        "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": str(role.count),
        "MASTER_ADDR": LOOPBACK,
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0",
        **role.env,
    }


def mpirun_command(role: Role, arguments: Sequence[str], mpirun: str, python: str, *, as_root: bool) -> tuple[str, ...]:
    """mpirun's argument list (pure). Ranks are not bound: the threads of a rank would share one core."""
    root = ("--allow-run-as-root",) if as_root else ()
    return (
        mpirun, *root, "--oversubscribe", "--bind-to", "none", "-np", str(role.count),
        python, "-m", "bench.worker", *arguments,
    )  # fmt: skip


def worker_arguments(role: Role, folder: str) -> tuple[str, ...]:
    """What ``python -m bench.worker`` is given for a role (pure)."""
    return ("--case", f"{folder}/case.json", "--role", role.name, "--out", folder)


class LocalJob(Job):
    """Processes of one trial on this machine."""

    def __init__(self, members: list[Member], folder: Path) -> None:
        self.members, self.folder = members, folder
        self.ended = False

    def wait(self, timeout_s: float) -> Ending:
        try:
            ended = self._await_end(time.monotonic() + timeout_s)
            if ended is not None:
                # Whoever fails next because of it may still say so.
                self._linger(LAST_WORDS_S)
                ended = self._killed() or ended
                outcome: Outcome = "failed"
            elif self._unfinished():
                self._ask_for_stacks()
                outcome = "timeout"
            else:
                outcome = "ok"
            status = ended.process.exitcode if ended else None
            late = ", ".join(member.title for member in self._unfinished())
        finally:
            self.cancel()
        return self._collect(outcome, ended, status, f"not done within {timeout_s:g} s: {late}")

    def _unfinished(self) -> list[Member]:
        return [member for member in self.members if not member.role.service and member.process.is_alive()]

    def _await_end(self, deadline: float) -> Member | None:
        """Wait until all but the services are done; returns the first process that ended badly, if one did."""
        running = list(self.members)
        while self._unfinished():
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            wait_for_any([member.process.sentinel for member in running], timeout=left)
            for member in [member for member in running if not member.process.is_alive()]:
                running.remove(member)
                if member.process.exitcode != 0 or (member.role.service and self._unfinished()):
                    return member
        return None

    def _killed(self) -> Member | None:
        """A process that somebody else ended: the cause, whatever the others say about their lost connections."""
        return next((member for member in self.members if member.process.exitcode == -signal.SIGKILL), None)

    def _linger(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._unfinished() and time.monotonic() < deadline:
            wait_for_any([member.process.sentinel for member in self._unfinished()], timeout=0.1)

    def _ask_for_stacks(self) -> None:
        for member in self.members:
            if member.process.pid and member.process.is_alive() and member.role.fanout == "each":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.process.pid, signal.SIGUSR1)
        time.sleep(STACKS_S)

    def cancel(self) -> None:
        if self.ended:
            return
        self.ended = True
        for member in self.members:
            if member.process.pid:
                # By itself first: it may be so young that it leads no session yet.
                member.process.kill()
                kill_session(member.process.pid)
        for member in self.members:
            member.process.join()
            member.process.close()

    def _collect(self, outcome: Outcome, culprit: Member | None, status: int | None, late: str) -> Ending:
        records = sorted(
            (RankRecord.model_validate_json(path.read_text()) for path in self.folder.glob("record-*.json")),
            key=lambda record: record.rank,
        )
        failures = [RankFailure.model_validate_json(path.read_text()) for path in self.folder.glob("failure-*.json")]
        failures.sort(key=lambda failure: failure.at)
        reason = None
        if outcome == "timeout":
            reason = late
        elif culprit is not None and status is not None and _is_cause(status, failures):
            reason = f"{culprit.title} was killed by {signal.Signals(-status).name}"
        elif failures:
            reason = f"{failures[0].role} {failures[0].rank}: {failures[0].error}"
            outcome = "failed"
        elif culprit is not None:
            reason = f"{culprit.title} ended with status {status} and no word; see the log's last lines"
        tail: tuple[str, ...] = ()
        if outcome != "ok":
            told = [culprit] if culprit else self.members
            lines = STACK_LINES if outcome == "timeout" else TAIL_LINES
            tail = tuple(line for member in told for line in _tail(member, lines))
        return Ending(outcome, reason, tuple(records), tuple(failures), tail)


def _is_cause(status: int, failures: Sequence[RankFailure]) -> bool:
    """Whether a signal ended the trial: any where nobody says more, and SIGKILL whatever the others say."""
    return status == -signal.SIGKILL or (status < 0 and not failures)


def _tail(member: Member, count: int) -> list[str]:
    with contextlib.suppress(OSError):
        lines = member.log.read_text(errors="replace").splitlines()[-count:]
        return [f"{member.title}: {line}" for line in lines]
    return []


def kill_session(leader: int) -> None:
    """End every process of a session: its leader's descendants, whatever process groups they made, and nobody else."""
    for _ in range(KILL_ROUNDS):
        members = [pid for pid in psutil.pids() if _lives_in(pid, leader)]
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            return


def _lives_in(pid: int, leader: int) -> bool:
    try:
        return os.getsid(pid) == leader and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False


class Local(Site):
    name = "local"
    summary = "processes on this machine"

    def __init__(self) -> None:
        self.context: Any = None

    def warm(self, modules: tuple[str, ...]) -> None:
        self.context = warm_up(modules)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        lines = []
        for role in roles:
            arguments = worker_arguments(role, ".")
            if role.fanout == "mpi":
                lines.append(" ".join(mpirun_command(role, arguments, "mpirun", "python", as_root=False)))
                continue
            for number in range(role.count):
                named = " ".join(f"{key}={value}" for key, value in variables(role, number, 29500).items())
                lines.append(f"{named} python -m bench.worker {' '.join(arguments)}")
        return {"commands.sh": "\n".join(lines) + "\n"}

    def start(self, case: Case, roles: tuple[Role, ...], folder: Path) -> Job:
        (folder / "case.json").write_text(case.model_dump_json())
        port = free_port(LOOPBACK)
        members: list[Member] = []
        job = LocalJob(members, folder)
        try:
            for role in roles:
                for number in range(1 if role.fanout == "mpi" else role.count):
                    members.append(self._bear(role, number, port, folder))
        except BaseException:
            job.cancel()
            raise
        return job

    def _bear(self, role: Role, number: int, port: int, folder: Path) -> Member:
        log = folder / f"{role.name}-{number}.log"
        arguments = worker_arguments(role, str(folder))
        env: Mapping[str, str] = variables(role, number, port)
        command: tuple[str, ...] = ()
        if role.fanout == "mpi":
            mpirun = find_mpirun() or "mpirun"
            command = mpirun_command(role, arguments, mpirun, sys.executable, as_root=os.geteuid() == 0)
            # mpirun tells each rank who it is.
            env = {name: value for name, value in env.items() if "RANK" not in name and "WORLD" not in name}
        birth = Birth(log=log, env=env, arguments=arguments, command=command)
        return Member(role, number, bear(self.context, birth, f"{role.name}-{number}"), log)


SITE = Local()
