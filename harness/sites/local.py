"""This machine: every rank is a process forked from a warm parent; MPI ranks are started by mpirun."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import psutil

from bench.backends import Options
from bench.case import Case, Role
from bench.links import INTERFACE, address, ranks_on_a_node
from bench.local import find_mpirun, free_port
from bench.nursery import Birth, bear, warm_up
from bench.progress import read_progress
from bench.records import Link
from harness import networks
from harness.aftermath import MPIRUN, Gone, Scene, collect
from harness.environment import read_machine
from harness.networks import Network
from harness.plan import Machine
from harness.sites import Asked, Ending, Job, Site
from harness.stacks import Stuck, gather, is_stopped

KILL_ROUNDS = 20
LAST_WORDS_S = 2.0
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


def variables(case: Case, role: Role, number: int, port: int) -> dict[str, str]:
    """The environment of one process (pure). Everything meets on the loopback interface, or at node 0 of a network of
    namespaces. A local rank is that on this machine, whose cores and GPUs all nodes made of namespaces share."""
    host, interface = LOOPBACK, "lo" if sys.platform == "linux" else "lo0"
    own: dict[str, str] = {}
    if case.net is not None:
        host, interface = address(0), INTERFACE
        own = {"OWN_ADDR": address(number // ranks_on_a_node(case))}
    return {
        "RANK": str(number),
        "WORLD_SIZE": str(role.count),
        "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": str(role.count),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": interface,
        **own,
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

    def __init__(
        self, members: list[Member], folder: Path, network: Network | None = None, link: Link | None = None
    ) -> None:
        self.members, self.folder, self.network, self.link = members, folder, network, link
        self.ended = False
        self.memory_kills = count_memory_kills()

    def wait(self, timeout_s: float) -> Ending:
        try:
            first = self._await_end(time.monotonic() + timeout_s)
            if first is not None:
                # Whoever fails next because of it may still say so.
                self._linger(self._unfinished(), LAST_WORDS_S)
            self._dismiss_observers()
            scene = self._look_around(first, timeout_s)
        finally:
            self.cancel()
        return replace(collect(self.folder, scene), link=self.link)

    def _unfinished(self) -> list[Member]:
        return [member for member in self.members if not member.role.service and member.process.is_alive()]

    def _await_end(self, deadline: float) -> Member | None:
        """Wait until all but the services are done; returns the first process that ended badly, if one did."""
        running = [member for member in self.members if not member.role.observer]
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

    def _linger(self, members: list[Member], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while members and (left := deadline - time.monotonic()) > 0:
            wait_for_any([member.process.sentinel for member in members], timeout=left)
            members = [member for member in members if member.process.is_alive()]

    def _dismiss_observers(self) -> None:
        observers = [member for member in self.members if member.role.observer and member.process.is_alive()]
        for member in observers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.process.pid or 0, signal.SIGTERM)
        self._linger(observers, LAST_WORDS_S)

    def _look_around(self, first: Member | None, timeout_s: float) -> Scene:
        """What there is to see before everything is ended."""
        late = self._unfinished()
        if first is None and not late:
            return Scene(timed_out=False, timeout_s=timeout_s)
        stuck = self._stuck()
        bad = [member for member in self.members if not member.role.observer and member.process.exitcode]
        ended = [first, *(member for member in bad if member is not first)] if first is not None else []
        return Scene(
            timed_out=first is None,
            timeout_s=timeout_s,
            gone=tuple(
                Gone(
                    MPIRUN if member.role.fanout == "mpi" else member.role.name,
                    member.number,
                    member.process.exitcode or 0,
                    member.log,
                )
                for member in ended
            ),
            stopped=tuple(one.title for one in stuck if one.stopped),
            stacks=gather(stuck),
            out_of_memory=count_memory_kills() > self.memory_kills,
        )

    def _stuck(self) -> list[Stuck]:
        """Every rank that is still there, and whatever else the backend started; under mpirun its ranks."""
        found = []
        for member in self.members:
            pid = member.process.pid
            if member.role.observer or pid is None or not member.process.is_alive():
                continue
            if member.role.fanout == "mpi":
                ranks = [one for one in read_progress(self.folder) if psutil.pid_exists(one.pid)]
                found += [Stuck(f"rank {one.rank}", one.pid, member.log, is_stopped(one.pid)) for one in ranks]
            else:
                found.append(Stuck(member.title, pid, member.log, is_stopped(pid)))
        return found

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
        if self.network is not None:
            self.network.end()


def count_memory_kills() -> int:
    """How many processes the kernel has ended for lack of memory since it started; 0 where it does not say."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/vmstat").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
    return 0


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
    shares_environment = True

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.context: Any = None
        self.links: dict[str, Link] = {}
        """What each network that was asked for carries: measured before its first trial."""

    def configured(self, chosen: Options) -> Self:
        # It has no knobs, and one warm parent.
        return self

    def machine(self) -> Machine:
        return read_machine()

    def why_not(self, case: Case) -> str | None:
        return networks.why_not(case)

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
                named = " ".join(f"{key}={value}" for key, value in variables(case, role, number, 29500).items())
                lines.append(f"{named} python -m bench.worker {' '.join(arguments)}")
        return {"commands.sh": "\n".join(lines) + "\n"}

    def start(self, asked: Asked) -> Job:
        case, roles, folder = asked
        (folder / "case.json").write_text(case.model_dump_json())
        port = free_port(LOOPBACK)
        members: list[Member] = []
        job = LocalJob(members, folder, *self._network_of(case))
        try:
            for role in roles:
                for number in range(1 if role.fanout == "mpi" else role.count):
                    members.append(self._bear(job, case, role, number, port))
        except BaseException:
            job.cancel()
            raise
        return job

    def _network_of(self, case: Case) -> tuple[Network | None, Link | None]:
        if case.net is None:
            return None, None
        if case.net not in self.links:
            self.links[case.net] = networks.measure(self.context, case.net)
        return Network(self.context, case), self.links[case.net]

    def _bear(self, job: LocalJob, case: Case, role: Role, number: int, port: int) -> Member:
        log = job.folder / f"{role.name}-{number}.log"
        arguments = worker_arguments(role, str(job.folder))
        env: Mapping[str, str] = variables(case, role, number, port)
        command: tuple[str, ...] = ()
        if role.fanout == "mpi":
            mpirun = find_mpirun() or "mpirun"
            command = mpirun_command(role, arguments, mpirun, sys.executable, as_root=os.geteuid() == 0)
            # mpirun tells each rank who it is.
            env = {name: value for name, value in env.items() if "RANK" not in name and "WORLD" not in name}
        namespace = job.network.place_of(role, number) if job.network else None
        birth = Birth(log=log, env=env, arguments=arguments, command=command, namespace=namespace)
        return Member(role, number, bear(self.context, birth, f"{role.name}-{number}"), log)


SITE = Local()
