"""This machine: every rank is a process forked from a warm parent; MPI ranks are started by mpirun."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from bench.core.case import Case, Role
from bench.core.exit_report import MPIRUN
from bench.core.records import Link
from bench.host.installation import find_mpirun
from bench.host.links import NODE_INTERFACE, node_address, ranks_on_a_node
from bench.host.network import free_port
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
from bench.node.launchers.base import AGENT, worker_arguments, worker_command
from bench.node.launchers.mpirun import mpirun_command
from bench.node.supervisor import ProcessGroup, WorkerProcess
from bench.plugins.backend import Options
from harness.planning.environment import read_machine
from harness.planning.placements import Machine
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult
from harness.sites.base.diagnosis import diagnose
from harness.sites.local import networks
from harness.sites.local.networks import Network

LOOPBACK_ADDRESS = "127.0.0.1"


def process_environment(case: Case, role: Role, number: int, port: int) -> dict[str, str]:
    """The environment of one process (pure). Everything meets on the loopback interface, or at node 0 of a network of
    namespaces. A local rank is that on this machine, whose cores and GPUs all nodes made of namespaces share."""
    host, interface = LOOPBACK_ADDRESS, "lo" if sys.platform == "linux" else "lo0"
    own_address: dict[str, str] = {}
    if case.net is not None:
        host, interface = node_address(0), NODE_INTERFACE
        own_address = {"OWN_ADDR": node_address(number // ranks_on_a_node(case))}
    return {
        "RANK": str(number),
        "WORLD_SIZE": str(role.count),
        "LOCAL_RANK": str(number),
        "LOCAL_WORLD_SIZE": str(role.count),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": interface,
        **own_address,
        **role.env,
    }


class LocalJob(Job):
    """Processes of one trial on this machine."""

    def __init__(self, folder: Path, network: Network | None = None, link: Link | None = None) -> None:
        self.folder, self.network, self.link = folder, network, link
        self.process_group = ProcessGroup(folder)

    def wait(self, timeout_s: float) -> TrialResult:
        try:
            scene = self.process_group.watch(timeout_s)
        finally:
            self.cancel()
        return replace(diagnose(self.folder, scene), link=self.link)

    def cancel(self) -> None:
        self.process_group.end()
        # A second call finds nothing left to end.
        network, self.network = self.network, None
        if network is not None:
            network.end()


class LocalSite(Site):
    name = "local"
    summary = "processes on this machine"
    launchers = (AGENT, "mpirun")
    shares_environment = True

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.forkserver: Any = None
        self.links: dict[str, Link] = {}
        """What each network that was asked for carries: measured before its first trial."""

    def with_options(self, chosen: Options) -> Self:
        # It has no knobs, and one warm parent.
        return self

    def machine(self) -> Machine:
        return read_machine()

    def unavailable_reason(self, case: Case) -> str | None:
        return networks.unavailable_reason(case)

    def warm(self, modules: tuple[str, ...]) -> None:
        self.forkserver = start_forkserver(modules)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        lines = []
        for role in roles:
            command = worker_command("python", "./case.json", ".", role.name)
            if role.fanout == "mpi":
                lines.append(shlex.join(mpirun_command(role.count, command, as_root=False)))
                continue
            for number in range(role.count):
                assignments = " ".join(
                    f"{key}={value}" for key, value in process_environment(case, role, number, 29500).items()
                )
                lines.append(f"{assignments} {shlex.join(command)}")
        return {"commands.sh": "\n".join(lines) + "\n"}

    def start(self, trial: TrialRequest) -> Job:
        case, roles, folder = trial
        (folder / "case.json").write_text(case.model_dump_json())
        port = free_port(LOOPBACK_ADDRESS)
        job = LocalJob(folder, *self._network_for(case))
        try:
            for role in roles:
                for number in range(1 if role.fanout == "mpi" else role.count):
                    job.process_group.workers.append(self._start_process(job, case, role, number, port))
        except BaseException:
            job.cancel()
            raise
        return job

    def _network_for(self, case: Case) -> tuple[Network | None, Link | None]:
        if case.net is None:
            return None, None
        if case.net not in self.links:
            self.links[case.net] = networks.measure_link(self.forkserver, case.net)
        return Network(self.forkserver, case), self.links[case.net]

    def _start_process(self, job: LocalJob, case: Case, role: Role, number: int, port: int) -> WorkerProcess:
        log = job.folder / f"{role.name}-{number}.log"
        arguments = worker_arguments(f"{job.folder}/case.json", str(job.folder), role.name)
        env: Mapping[str, str] = process_environment(case, role, number, port)
        command: tuple[str, ...] = ()
        if role.fanout == "mpi":
            rank_command = worker_command(sys.executable, f"{job.folder}/case.json", str(job.folder))
            mpirun = find_mpirun() or "mpirun"
            command = mpirun_command(role.count, rank_command, mpirun=mpirun, as_root=os.geteuid() == 0)
            # mpirun tells each rank who it is.
            env = {name: value for name, value in env.items() if "RANK" not in name and "WORLD" not in name}
        namespace = job.network.namespace_of(role, number) if job.network else None
        birth = ProcessSpec(log=log, env=env, arguments=arguments, command=command, namespace=namespace)
        process = start_process(self.forkserver, birth, f"{role.name}-{number}")
        return WorkerProcess(role, number, process, log, MPIRUN if role.fanout == "mpi" else None)


SITE = LocalSite()
