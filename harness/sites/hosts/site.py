"""Machines that ssh reaches: the nodes are the first hosts of a file, and each runs an agent during a trial."""

from __future__ import annotations

import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from bench.core.case import Case, Role
from bench.host.certificate import create_certificate
from bench.host.paths import from_home
from bench.node.launchers.base import AGENT, choose_launcher
from bench.node.launchers.runner import CASE_FILE, ONE_NODE_LAUNCHERS, launcher_arguments
from bench.node.trial_feed import FedTrial
from bench.plugins.backend import Options
from harness.sites.base.contract import Job, Site, SiteOptions, TrialRequest
from harness.sites.base.remote import feed_arguments, needs_certificate, node_command, rendezvous_port
from harness.sites.hosts import client
from harness.sites.hosts.agents import KeptAgents
from harness.sites.hosts.hosts_file import PATH_PATTERN, USER_PATTERN, Host, read_hosts
from harness.sites.hosts.job import HostCommand, SshJob

INTERFACE_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}$"
FOLDER_PATTERN = r"^/[A-Za-z0-9._/-]*$"
CONFIG_FILE = "ssh_config"
PRIVATE_FOLDER = "ours"
"""Inside the trial's folder; nothing that hosts send is unpacked there."""


class SshOptions(SiteOptions):
    file: str | None = Field(
        None,
        min_length=1,
        description="the hosts, one on each line: name [slots=K] [address=A] [user=U] [port=P] [python=FILE]",
    )
    user: str | None = Field(None, pattern=USER_PATTERN, description="user name; default: as ssh is configured")
    port: int | None = Field(None, ge=1, le=65535, description="port of sshd; default: as ssh is configured")
    identity: str | None = Field(
        None,
        pattern=PATH_PATTERN,
        description="file of the private key; for mpirun and horovodrun also the path on the first host",
    )
    known_hosts: str | None = Field(
        None, pattern=PATH_PATTERN, description="file of the hosts' keys; default: ~/.ssh/known_hosts"
    )
    host_key_checking: Literal["strict", "accept-new"] = Field(
        "strict", description="refuse a host with an unknown key, or add its key to known_hosts"
    )
    python: str | None = Field(
        None, pattern=PATH_PATTERN, description="Python interpreter on the hosts; default: the path of this one"
    )
    folder: str | None = Field(
        None, pattern=PATH_PATTERN, description="checkout on the hosts; default: the package is installed"
    )
    scratch: str = Field(
        "/tmp",
        pattern=FOLDER_PATTERN,
        description="folder on the hosts, not on a shared disk",
    )
    interface: str | None = Field(
        None,
        pattern=INTERFACE_PATTERN,
        description="network interface of the ranks; default: the one with the route to the first host",
    )
    start: Literal["auto", "own", "torchrun", "horovodrun", "mpirun"] = Field(
        "auto",
        description="launcher of the ranks, where their backend has a choice; auto and own: the agents (mpirun always "
        "starts MPI ranks)",
    )


class SshSite(Site):
    name = "hosts"
    summary = "machines that ssh reaches"
    options = SshOptions
    launchers = (AGENT, "torchrun", "horovodrun", "mpirun")
    chosen: SshOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.file = None if self.chosen.file is None else from_home(self.chosen.file)
        self.access = client.SshAccess(
            self.chosen.user,
            self.chosen.port,
            self.chosen.identity,
            self.chosen.known_hosts,
            self.chosen.host_key_checking,
        )
        self._agents = KeptAgents()
        self._programs_only = False
        self._modules: tuple[str, ...] | None = ()
        """What agents that outlive a trial import once; ``None``: not even the frameworks."""
        self.host_checks = client.HostChecks(self.access, self.chosen.folder, self._python)

    def _python(self, host: Host) -> str:
        return host.python or self.chosen.python or sys.executable

    def missing_dependency(self) -> str | None:
        return None if shutil.which("ssh") else "no ssh on this machine: apt-get install openssh-client"

    def missing_option(self) -> str | None:
        return None if self.file else "no hosts are named: --set hosts.file=FILE, with one host on each line"

    def unavailable_reason(self, case: Case) -> str | None:
        missing = self.missing_dependency() or self.missing_option()
        if missing or self.file is None:
            return missing
        if case.net is not None:
            return "the links between hosts can't be shaped: leave --net out"
        hosts = read_hosts(self.file)
        chosen = self._with_free_slots(hosts, case)
        if len(chosen) < case.nodes:
            width = case.ranks_on_a_node
            room = f" with {width} slots" if len(chosen) < len(hosts) else ""
            return f"{len(chosen)} host{'s' * (len(chosen) != 1)}{room} in {self.file}, the case needs {case.nodes}"
        return self.host_checks.unavailable_reason(chosen[: case.nodes])

    def launcher_unavailable_reason(self, launcher: str) -> str | None:
        if self.chosen.start == "own" and launcher != AGENT:
            return f"{launcher} has to start its ranks, but hosts.start = own: leave that out, or set another transport"
        return None

    def _with_free_slots(self, hosts: Sequence[Host], case: Case) -> list[Host]:
        return [host for host in hosts if host.slots is None or host.slots >= case.ranks_on_a_node]

    def _hosts_for(self, case: Case) -> list[Host]:
        if self.file is None:
            return [Host(name=f"host-{number}") for number in range(case.nodes)]
        return self._with_free_slots(read_hosts(self.file), case)[: case.nodes]

    def _host_commands(
        self, case: Case, roles: Sequence[Role], hosts: Sequence[Host], config: str, token: str, port: int
    ) -> list[HostCommand]:
        """The commands of a trial (pure): an agent for each node, and the launcher, where one starts the ranks."""
        launcher = choose_launcher(roles, self.launchers, self.chosen.start) or AGENT
        launched = launcher in ONE_NODE_LAUNCHERS
        # The path is the same on all hosts: a launcher, or Dask's driver, passes it on to all ranks.
        out = f"{self.chosen.scratch.rstrip('/')}/scaling-{token}"
        env = self._variables(case, hosts, port)
        if launcher == AGENT:
            return [
                self._fed_agent(host, config, FedTrial(name=token, out=out, fresh=True, case=case, variables=variables))
                for host, variables in zip(hosts, self._of_nodes(env, len(hosts)), strict=True)
            ]
        rank_arguments = ["--ranks", launcher]
        if launched:
            rank_arguments = ["--ranks", "elsewhere", "--case", f"{out}/{CASE_FILE}"]
        rank_arguments += ["--certificate", "-"] if needs_certificate(case, roles) else []
        host_commands = []
        for number, (host, variables) in enumerate(zip(hosts, self._of_nodes(env, len(hosts)), strict=True)):
            words = node_command("--stdio", *rank_arguments, "--fresh", "--out", out, python=self._python(host))
            line = client.remote_command(self.chosen.folder, variables, words)
            host_commands.append(HostCommand(f"agent-{number}", number, host, client.ssh_command(config, host, line)))
        if launched:
            slots_by_address = [(host.connect_address, case.ranks_on_a_node) for host in hosts]
            words = [self._python(hosts[0]), *launcher_arguments(launcher, slots_by_address, case.ranks, out)]
            line = client.remote_command(self.chosen.folder, env, words)
            host_commands.append(HostCommand(launcher, None, hosts[0], client.ssh_command(config, hosts[0], line)))
        return host_commands

    def _of_nodes(self, env: Mapping[str, str], nodes: int) -> list[dict[str, str]]:
        return [{"SCALING_NODE": str(number), **env} for number in range(nodes)]

    def _fed_agent(self, host: Host, config: str, trial: FedTrial) -> HostCommand:
        """The command of an agent that serves trials one after another, with what it is told of this one."""
        words = node_command(*feed_arguments(self._modules), python=self._python(host))
        command = client.ssh_command(config, host, client.remote_command(self.chosen.folder, {}, words))
        number = trial.variables["SCALING_NODE"]
        return HostCommand(f"agent-{number}", int(number), host, command, trial)

    def _variables(self, case: Case, hosts: Sequence[Host], port: int) -> dict[str, str]:
        named = {"SCALING_INTERFACE": self.chosen.interface} if self.chosen.interface else {}
        return {
            "SCALING_NODES": str(case.nodes),
            "MASTER_ADDR": hosts[0].connect_address,
            "MASTER_PORT": str(port),
            **named,
        }

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        hosts = self._hosts_for(case)
        host_commands = self._host_commands(case, roles, hosts, CONFIG_FILE, "trial", 29500)
        head = "# Each agent reads the case from standard input, which stays open: the agent ends when it closes.\n"
        lines = "".join(f"{shlex.join(host_command.command)}\n" for host_command in host_commands)
        documents = {
            f"{host_command.title}.json": f"{host_command.document.model_dump_json(exclude_defaults=True)}\n"
            for host_command in host_commands
            if host_command.document is not None
        }
        return {CONFIG_FILE: client.ssh_config(hosts, self.access), "commands.sh": head + lines, **documents}

    def reserve(self, cases: Sequence[Case]) -> None:
        self._programs_only = all(case.program is not None for case in cases)

    def warm(self, modules: tuple[str, ...]) -> None:
        self._modules = None if self._programs_only else modules

    def close(self) -> None:
        self._agents.close()

    def start(self, trial: TrialRequest) -> Job:
        case, roles, folder = trial
        hosts = self._hosts_for(case)
        text = client.ssh_config(hosts, self.access)
        config = folder / PRIVATE_FOLDER / CONFIG_FILE
        config.parent.mkdir(mode=0o700)
        config.write_text(text)
        host_commands = self._host_commands(
            case, roles, hosts, str(config), secrets.token_hex(8), rendezvous_port(folder.name)
        )
        certificate = create_certificate() if needs_certificate(case, roles) else None
        if certificate is not None:
            host_commands = [with_certificate(host_command, certificate) for host_command in host_commands]
        return SshJob(case, folder, host_commands, text, self.access, certificate, self._agents)


def with_certificate(host_command: HostCommand, certificate: str) -> HostCommand:
    """The command of an agent that outlives the trial with the trial's certificate in what it is told (pure)."""
    if host_command.document is None:
        return host_command
    document = host_command.document.model_copy(update={"certificate": certificate})
    return host_command._replace(document=document)


SITE = SshSite()
