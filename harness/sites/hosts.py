"""Machines that ssh reaches: the nodes are the first hosts of a file, each with an agent for the length of a trial."""

from __future__ import annotations

import secrets
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from bench.backends import Options
from bench.case import Case, Role
from bench.launcher import CASE_FILE, LAUNCHERS, arguments_for
from harness.remote import meeting_port, node_command
from harness.sites import Asked, Job, Site
from harness.ssh import client
from harness.ssh.hosts_file import PATH, USER, Host, read_hosts
from harness.ssh.job import HostsJob, Order
from harness.ssh.probes import Probes

INTERFACE = r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}$"
FOLDER = r"^/[A-Za-z0-9._/-]*$"
Start = Literal["own", "torchrun", "horovodrun", "mpirun"]
CONFIG = "ssh_config"
OURS = "ours"
"""Inside the trial's folder, where nothing that hosts send is unpacked."""


class HostsOptions(Options):
    file: str | None = Field(None, min_length=1, description="the hosts, one a line: name [slots=K] [address=A] "
                             "[user=U] [port=P] [python=FILE]")  # fmt: skip
    user: str | None = Field(None, pattern=USER, description="who to be there; else as ssh does by itself")
    port: int | None = Field(None, ge=1, le=65535, description="where their sshd listens; else 22")
    identity: str | None = Field(None, pattern=PATH, description="file of the private key; mpirun and horovodrun look "
                                 "for it under the same path on the first host")  # fmt: skip
    known_hosts: str | None = Field(None, pattern=PATH, description="file of the hosts' keys; else ~/.ssh/known_hosts")
    host_key_checking: Literal["strict", "accept-new"] = Field(
        "strict", description="a host whose key is not known is refused, or its key is written to known_hosts"
    )
    python: str | None = Field(None, pattern=PATH, description="the interpreter there; else the path of this one")
    folder: str | None = Field(None, pattern=PATH, description="the checkout there; else the package is installed")
    scratch: str = Field(
        "/tmp", pattern=FOLDER, description="where a trial has its folder there: no disk that they share"
    )
    interface: str | None = Field(None, pattern=INTERFACE, description="by which the hosts meet; else the one that "
                                  "leads to the first of them")  # fmt: skip
    start: Literal["auto", "own", "torchrun", "horovodrun", "mpirun"] = Field(
        "auto", description="who starts ranks: torchrun those of ddp (torch's store then listens on every interface of "
        "the first host), horovodrun those of horovod over gloo, mpirun always those over mpi; auto and own: we do"
    )  # fmt: skip


def starter(case: Case, chosen: str) -> Start:
    """Who starts the ranks of a case (pure)."""
    if case.transport == "mpi":
        return "mpirun"
    if chosen == "torchrun" and case.backend == "ddp":
        return "torchrun"
    if chosen == "horovodrun" and case.backend == "horovod":
        return "horovodrun"
    return "own"


class Hosts(Site):
    name = "hosts"
    summary = "machines that ssh reaches"
    options = HostsOptions

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        assert isinstance(self.chosen, HostsOptions)
        self.set: HostsOptions = self.chosen
        self.file = None if self.set.file is None else Path(self.set.file).expanduser()
        self.access = client.Access(self.set.user, self.set.port, self.set.identity, self.set.known_hosts,
                                 self.set.host_key_checking)  # fmt: skip
        self.probes = Probes(self.access, self.set.folder, self._python)

    def _python(self, host: Host) -> str:
        return host.python or self.set.python or sys.executable

    def lacking(self) -> str | None:
        return None if shutil.which("ssh") else "no ssh on this machine: apt-get install openssh-client"

    def unset(self) -> str | None:
        return None if self.file else "no hosts are named: --set hosts.file=FILE, one host a line"

    def why_not(self, case: Case) -> str | None:
        missing = self.lacking() or self.unset()
        if missing or self.file is None:
            return missing
        if case.net is not None:
            return "the links between hosts are the real ones: leave --net out"
        if self.set.start == "own" and case.transport == "mpi":
            return "ranks over mpi are mpirun's to start: leave --set hosts.start=own out, or use another transport"
        hosts = read_hosts(self.file)
        chosen = self._roomy(hosts, case)
        if len(chosen) < case.nodes:
            width = case.ranks_on_a_node
            room = f" with {width} slots" if len(chosen) < len(hosts) else ""
            return f"{len(chosen)} host{'s' * (len(chosen) != 1)}{room} in {self.file}, the case takes {case.nodes}"
        return self.probes.why_not(chosen[: case.nodes])

    def _roomy(self, hosts: Sequence[Host], case: Case) -> list[Host]:
        return [host for host in hosts if host.slots is None or host.slots >= case.ranks_on_a_node]

    def _nodes(self, case: Case) -> list[Host]:
        if self.file is None:
            return [Host(name=f"host-{number}") for number in range(case.nodes)]
        return self._roomy(read_hosts(self.file), case)[: case.nodes]

    def _orders(self, case: Case, hosts: Sequence[Host], config: str, token: str, port: int) -> list[Order]:
        """The commands of a trial (pure): one for each node, and one that starts the ranks where nodes don't."""
        start, out = starter(case, self.set.start), f"{self.set.scratch.rstrip('/')}/scaling-{token}"
        launched = start in LAUNCHERS
        # The path is the same everywhere: launchers, and Dask's driver, tell it to all ranks.
        how = ["--ranks", "elsewhere", "--case", f"{out}/{CASE_FILE}"] if launched else ["--ranks", start]
        env = self._variables(case, hosts, port)
        orders = []
        for number, host in enumerate(hosts):
            words = node_command("--stdio", *how, "--fresh", "--out", out, python=self._python(host))
            line = client.remote_line(self.set.folder, {"SCALING_NODE": str(number), **env}, words)
            orders.append(Order(f"agent-{number}", number, host, client.command(config, host, line)))
        if launched:
            met = [(host.met_at, case.ranks_on_a_node) for host in hosts]
            words = [self._python(hosts[0]), *arguments_for(start, met, case.ranks, out)]
            line = client.remote_line(self.set.folder, env, words)
            orders.append(Order(start, None, hosts[0], client.command(config, hosts[0], line)))
        return orders

    def _variables(self, case: Case, hosts: Sequence[Host], port: int) -> dict[str, str]:
        named = {"SCALING_INTERFACE": self.set.interface} if self.set.interface else {}
        return {"SCALING_NODES": str(case.nodes), "MASTER_ADDR": hosts[0].met_at, "MASTER_PORT": str(port), **named}

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        hosts = self._nodes(case)
        orders = self._orders(case, hosts, CONFIG, "trial", 29500)
        head = "# Each reads the case as a line of standard input, which stays open: its end ends everything there.\n"
        lines = "".join(f"{shlex.join(order.command)}\n" for order in orders)
        return {CONFIG: client.config(hosts, self.access), "commands.sh": head + lines}

    def start(self, asked: Asked) -> Job:
        case, folder = asked.case, asked.folder
        hosts = self._nodes(case)
        text = client.config(hosts, self.access)
        config = folder / OURS / CONFIG
        config.parent.mkdir(mode=0o700)
        config.write_text(text)
        orders = self._orders(case, hosts, str(config), secrets.token_hex(8), meeting_port(folder.name))
        return HostsJob(case, folder, orders, text, self.access)


SITE = Hosts()
