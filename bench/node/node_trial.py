"""A node's part of one trial, from its case to the report that the node leaves."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.case import Case
from bench.core.exit_report import ExitReport, NodeReport
from bench.core.frozen_model import write_model
from bench.host.logs import MAX_ERROR_LENGTH, describe_exception, printable_line, traceback_lines
from bench.host.machine import read_node_facts
from bench.host.network import InterfaceError
from bench.node.control import HarnessDisconnected, NodeControl
from bench.node.forked import StartError
from bench.node.forkserver import ALWAYS_PRELOADED, start_forkserver
from bench.node.guardian import set_deadline
from bench.node.launchers.base import WORKER_MODULE
from bench.node.layout import NodeLayout, read_layout, required_roles
from bench.node.node_agent import NodeAgent, RankStarter
from bench.node.rendezvous import RendezvousError
from bench.plugins import registry
from bench.plugins.workload import DataProblem

READY_LINE = "scaling-ready"
"""Printed once the case file, and a program's files, are where ranks that another program starts will read it."""
DEADLINE_MARGIN_S = 120.0
"""How long after the time limit of a trial all its processes on a host have ended, whatever became of its agent. Stack
dumps and the transfer of files are done long before."""
FOLLOWER_GRACE_S = 5.0
"""How much longer than node 0 the other nodes wait: the node that notices a timeout first reports the most."""


def with_local_data(case: Case) -> Case:
    """The case with its data at a path that exists on this node: as it was prepared, or prepared again here.

    Raises:
        DataProblem: If preparing it again gives other data.
    """
    if case.data is None or Path(case.data.path).exists():
        return case
    prepared = registry.workload_of(case).prepare(case)
    if prepared is None or prepared.digest != case.data.digest:
        raise DataProblem(
            f"{case.data.name} is other data here than on the harness's machine; copy it to "
            f"{case.data.path}, or name the same files"
        )
    return case.model_copy(update={"data": prepared})


@dataclass(frozen=True)
class AgentOptions:
    """What the command line says of a node's part of a trial."""

    out: Path
    """Existing folder for what the processes leave, and for the node's report."""
    ranks: RankStarter = "own"
    case_file: Path | None = None
    """Where ranks that another program starts read the case; ``None``: there are none."""
    services_provided: bool = False
    """The site keeps the services of the backend itself."""
    certificate: str | None = None
    """The certificate of the trial, as PEM text, where several agents need the same."""


def run(case: Case, env: Mapping[str, str], options: AgentOptions, control: NodeControl) -> int:
    """Run this node's part of a trial, write the node's report and return the exit status.

    Args:
        case: The case to run.
        env: The environment, which says which node this is.
        options: What the command line says.
        control: Tells the node to end.

    Raises:
        HarnessDisconnected: If the harness is gone; nobody would read the report.
    """
    node_text = env.get("SCALING_NODE", "0")
    node = int(node_text) if node_text.isdigit() else 0
    exit_report, problem = None, None
    try:
        layout = read_layout(case, env)
        node = layout.rendezvous.node
        exit_report = _run_processes(with_local_data(case), layout, options, control)
    except HarnessDisconnected:
        raise
    except (RendezvousError, InterfaceError, DataProblem, StartError) as error:
        problem = printable_line(str(error)[:MAX_ERROR_LENGTH], MAX_ERROR_LENGTH)
        print(problem, file=sys.stderr, flush=True)
    except Exception as error:
        print("\n".join(traceback_lines(error)), file=sys.stderr, flush=True)
        problem = describe_exception(error)
    report = NodeReport(facts=read_node_facts(node, _packages_of(case)), exit_report=exit_report, problem=problem)
    write_model(options.out, report.file, report)
    return 0 if exit_report is not None and exit_report.succeeded else 1


def _run_processes(case: Case, layout: NodeLayout, options: AgentOptions, control: NodeControl) -> ExitReport:
    node = layout.rendezvous.node
    case_file = options.case_file or options.out / f".case-{node}.json"
    case_file.write_text(case.model_dump_json())
    backend = registry.backend_of(case)
    roles = required_roles(case, backend, services_provided=options.services_provided)
    agent = NodeAgent(case, roles, layout, options.out, case_file, options.ranks, options.certificate)
    if options.case_file is not None:
        agent.write_program()
        print(READY_LINE, flush=True)
    set_deadline(case.timeout_s + DEADLINE_MARGIN_S)
    # Ranks that another program starts, and those of a user's program, import by themselves what they need.
    forked_ranks = options.ranks == "own" and not backend.starts_programs
    context = open_forkserver(backend.preload if forked_ranks else None)
    try:
        agent.start(context)
        return agent.watch(case.timeout_s + (FOLLOWER_GRACE_S if node else 0), control)
    finally:
        case_file.unlink(missing_ok=True)


def open_forkserver(preload: tuple[str, ...] | None) -> Any:
    """The context of this node's forkserver, which is started where it does not run yet: one that runs has imported
    what the first call named.

    Args:
        preload: The modules of backends that it imports, beside the frameworks; ``None``: no rank is forked that needs
            frameworks.
    """
    modules = ((), (WORKER_MODULE,)) if preload is None else (preload, ALWAYS_PRELOADED)
    return start_forkserver(*modules, inside_job=True)


def _packages_of(case: Case) -> tuple[str, ...]:
    """The distributions of the case's backend; none where it can't be loaded, which is reported elsewhere."""
    with suppress(Exception):
        return registry.backend_of(case).packages
    return ()
