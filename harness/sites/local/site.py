"""This machine: a node agent in the harness's own process starts the ranks from a warm forkserver."""

from __future__ import annotations

import os
import resource
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Self

from bench.core.case import Case, Role
from bench.core.exit_report import NodeReport
from bench.core.frozen_model import write_model
from bench.core.machine import NodeFacts
from bench.core.records import Link
from bench.host.given_variables import with_given
from bench.host.links import NODE_INTERFACE, node_address, ranks_per_namespace
from bench.host.machine import read_node_facts
from bench.host.namespaces import NetworkNamespaces
from bench.host.network import LOOPBACK, Interface, free_port, loopback_problem
from bench.host.resources import parent_cores, usable_cores
from bench.host.variables import preloaded_binding, recorded_variables
from bench.node.forked import StartError
from bench.node.launchers.base import AGENT, WORKER_MODULE, worker_command
from bench.node.launchers.mpirun import mpirun_command
from bench.node.layout import LocalNode, NodeLayout
from bench.node.rendezvous import DEFAULT_PORT, Rendezvous
from bench.plugins.backend import Options
from harness.errors import UsageError
from harness.planning.environment import read_machine
from harness.planning.placements import Machine
from harness.sites.base.contract import Job, Site, TrialRequest, TrialResult, ranks_per_gpu
from harness.sites.base.remote import UnstartedJob, gather_result
from harness.sites.local import networks
from harness.sites.local.networks import Network

CASE_FILE = "case.json"
MAX_RANKS_HERE = 4096
OWN_FILES, FILES_PER_RANK = 64, 4
"""How many files the harness has open besides, and for each rank: pipes to the rank and to the forkserver."""


def local_layout(case: Case, port: int, namespaces: NetworkNamespaces | None = None) -> NodeLayout:
    """How the processes of a case are distributed on this machine (pure).

    Without a network all of them meet on the loopback interface. With one, each node is a network namespace that holds
    the ranks of a node, or a single rank.

    Args:
        case: The case.
        port: The port at which rank 0 listens.
        namespaces: Where the namespaces of its network are; ``None`` before they exist.
    """
    if case.net is None:
        return NodeLayout(Rendezvous(0, 1, LOOPBACK.address, port), (LocalNode(LOOPBACK),), case.ranks)
    width = ranks_per_namespace(case)
    count = case.ranks // width
    paths: tuple[str | None, ...] = namespaces.nodes if namespaces else (None,) * count
    nodes = tuple(
        LocalNode(Interface(NODE_INTERFACE, node_address(node)), node_address(node), path)
        for node, path in enumerate(paths)
    )
    hub = namespaces.hub if namespaces else None
    return NodeLayout(Rendezvous(0, count, node_address(0), port), nodes, width, observer_namespace=hub)


def pinned_at_start_reason(env: Mapping[str, str], own: Sequence[int], parents: Sequence[int]) -> str | None:
    """Why this command may use fewer cores than the shell that started it, with the remedy, or ``None`` (pure).

    Args:
        env: The environment variables of this process.
        own: The cores that it may use.
        parents: Those that its parent may use.
    """
    binding = preloaded_binding(env)
    if not binding or not set(parents) - set(own):
        return None
    return (
        f"{', '.join(binding)}: with LD_PRELOAD={env['LD_PRELOAD']} it has pinned this command to "
        f"{len(own)} of {len(parents)} cores; unset it: ranks get their cores from the plan"
    )


def too_many_ranks_reason(ranks: int, open_files: int) -> str | None:
    """Why so many ranks can't be started on this machine, with the remedy, or ``None`` (pure).

    Args:
        ranks: The number of ranks.
        open_files: How many files a process may have open; below 0: as many as it likes.
    """
    if ranks > MAX_RANKS_HERE:
        return f"a machine starts at most {MAX_RANKS_HERE:,} ranks: use fewer, or more nodes by another --site"
    needed = OWN_FILES + ranks * FILES_PER_RANK
    if 0 <= open_files < needed:
        return f"{ranks} ranks need {needed} open files, {open_files} are allowed: `ulimit -n {needed}`"
    return None


def with_variables(
    result: TrialResult, env: Mapping[str, str], given: Mapping[str, str] = MappingProxyType({})
) -> TrialResult:
    """The result of a trial that failed, with the variables of its ranks that change what they do (pure).

    A rank that died has no record of them, and one of them may be the cause: torch 2.13.0's DistributedDataParallel
    on CPUs dies of SIGSEGV with ``TORCH_DISTRIBUTED_DEBUG=DETAIL``.
    """
    variables = recorded_variables(with_given(env, given), given)
    if result.outcome == "ok" or not variables:
        return result
    values = ", ".join(f"{name}={value}" for name, value in variables.items())
    return replace(result, log_tail=(*result.log_tail, f"environment variables of the ranks: {values}"))


class LocalJob(Job):
    """The processes of one trial on this machine.

    Args:
        request: The trial that is run; its case file exists.
        context: The forkserver that the processes are started from.
        facts: What this machine reports of itself.
        network: The network that joins the nodes, if there is one; the job ends it.
        link: What the links of such a network carry.
    """

    def __init__(
        self,
        request: TrialRequest,
        context: Any,
        facts: NodeFacts,
        network: Network | None = None,
        link: Link | None = None,
    ) -> None:
        self.case, self.folder, self.facts, self.network, self.link = (
            request.case,
            request.folder,
            facts,
            network,
            link,
        )
        # A plan needs neither the agent nor the forkserver, and takes longer with them.
        from bench.node.node_agent import NodeAgent

        layout = local_layout(self.case, free_port(LOOPBACK.address), network.namespaces if network else None)
        self.agent = NodeAgent(self.case, request.roles, layout, self.folder, self.folder / CASE_FILE)
        try:
            self.agent.start(context)
        except BaseException:
            self.cancel()
            raise

    def wait(self, timeout_s: float) -> TrialResult:
        try:
            report = NodeReport(facts=self.facts, exit_report=self.agent.watch(timeout_s))
        finally:
            self.cancel()
        # On a full disk, or without the folder, the report counts nevertheless.
        with suppress(OSError):
            write_model(self.folder, report.file, report)
        # The facts of this machine are part of the sweep's environment already.
        result = gather_result(self.folder, self.case, agents=1, own_report=report)
        result = replace(result, nodes=(), link=self.link)
        return with_variables(result, os.environ, self.case.env)

    def cancel(self) -> None:
        self.agent.end()
        # A second call finds nothing left to end.
        network, self.network = self.network, None
        if network is not None:
            network.end()


class LocalSite(Site):
    name = "local"
    summary = "processes on this machine"
    launchers = (AGENT, "mpirun")
    shares_environment = True
    uses_this_machine = True

    def __init__(self, chosen: Options | None = None) -> None:
        super().__init__(chosen)
        self.forkserver: Any = None
        self.needs_frameworks = True
        """Whether ranks are forked that need the frameworks: those of a user's program import them by themselves."""
        self.links: dict[str, Link] = {}
        """What the links of each rate carry, measured before the first trial that uses them."""

    def with_options(self, chosen: Options) -> Self:
        # All of them have one forkserver, and know of the same links.
        same = copy(self)
        same.chosen = chosen
        return same

    def machine(self) -> Machine:
        return read_machine().model_copy(update={"ranks_per_gpu": ranks_per_gpu(self.chosen)})

    def unavailable_reason(self, case: Case) -> str | None:
        open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            too_many_ranks_reason(case.ranks, open_files)
            or networks.unavailable_reason(case)
            # Namespaces bring up a loopback interface of their own.
            or (loopback_problem() if case.net is None and case.transport != "none" else None)
        )

    def reserve(self, cases: Sequence[Case]) -> None:
        self.needs_frameworks = any(case.program is None for case in cases)

    def warm(self, modules: tuple[str, ...]) -> None:
        from bench.node.forkserver import ALWAYS_PRELOADED, start_forkserver

        if problem := pinned_at_start_reason(os.environ, usable_cores(), parent_cores()):
            raise UsageError(problem)
        try:
            always = ALWAYS_PRELOADED if self.needs_frameworks else (WORKER_MODULE,)
            self.forkserver = start_forkserver(modules, always)
        except OSError as error:
            # Where the root is read-only, temporary files go to the current folder, whose path may be too long.
            raise UsageError(
                f"temporary folder {tempfile.tempdir or 'unknown'}: no process can be started ({error}); "
                "set TMPDIR to a writable folder with a short path, such as a volume on /tmp"
            ) from None

    def warm_again(self, modules: tuple[str, ...]) -> None:
        from bench.node.forked import end_forkserver

        # The one that runs would not load them: each rank would, and start later than those of other backends.
        end_forkserver()
        self.warm(modules)

    def render(self, case: Case, roles: tuple[Role, ...]) -> dict[str, str]:
        layout, lines = local_layout(case, DEFAULT_PORT), []
        for role in roles:
            command = worker_command("python", f"./{CASE_FILE}", ".", role.name)
            if role.fanout == "mpi":
                lines.append(shlex.join(mpirun_command(role.count, command, as_root=False)))
                continue
            for number in layout.process_numbers(role):
                assignments = [f"{name}={value}" for name, value in layout.environment(role, number).items()]
                lines.append(" ".join([*assignments, shlex.join(command)]))
        return {"commands.sh": "\n".join(lines) + "\n"}

    def start(self, request: TrialRequest) -> Job:
        case = request.case
        (request.folder / CASE_FILE).write_text(case.model_dump_json())
        network = link = None
        if case.net is not None:
            if case.net not in self.links:
                self.links[case.net] = networks.measure_link(self.forkserver, case.net)
            network, link = Network(self.forkserver, case), self.links[case.net]
        try:
            return LocalJob(request, self.forkserver, self._facts, network, link)
        except StartError as problem:
            return UnstartedJob(str(problem))

    @cached_property
    def _facts(self) -> NodeFacts:
        return read_node_facts(0)


SITE = LocalSite()
