"""This machine: every rank is a process forked from a warm parent; MPI ranks are started by mpirun."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from bench.backends import Options
from bench.case import Case, Role
from bench.crew import Crew, Member
from bench.links import INTERFACE, address, ranks_on_a_node
from bench.local import find_mpirun, free_port
from bench.nursery import Birth, bear, warm_up
from bench.records import Link
from bench.scene import MPIRUN
from harness import networks
from harness.aftermath import collect
from harness.environment import read_machine
from harness.machines import Machine
from harness.networks import Network
from harness.sites import Asked, Ending, Job, Site

LOOPBACK = "127.0.0.1"


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

    def __init__(self, folder: Path, network: Network | None = None, link: Link | None = None) -> None:
        self.folder, self.network, self.link = folder, network, link
        self.crew = Crew(folder)

    def wait(self, timeout_s: float) -> Ending:
        try:
            scene = self.crew.watch(timeout_s)
        finally:
            self.cancel()
        return replace(collect(self.folder, scene), link=self.link)

    def cancel(self) -> None:
        self.crew.end()
        # A second call finds nothing left to end.
        network, self.network = self.network, None
        if network is not None:
            network.end()


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
        job = LocalJob(folder, *self._network_of(case))
        try:
            for role in roles:
                for number in range(1 if role.fanout == "mpi" else role.count):
                    job.crew.members.append(self._bear(job, case, role, number, port))
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
        process = bear(self.context, birth, f"{role.name}-{number}")
        return Member(role, number, process, log, MPIRUN if role.fanout == "mpi" else None)


SITE = Local()
