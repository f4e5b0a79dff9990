"""One node of a trial beyond the harness's machine: starts this node's processes, watches them, says how they ended.

    python -m bench.node.agent --case case.json --out FOLDER

The site starts one on each node; :mod:`bench.node.rendezvous` tells which node it is. It leaves what the ranks left,
their logs, and, as its very last act, ``node-<n>.json``. The trial's time is kept here, so that waiting in a queue does
not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.core.case import Case, Role, roles_to_start
from bench.core.exit_report import TORCHRUN, ExitReport, NodeReport
from bench.core.frozen_model import write_model
from bench.host.installation import find_mpirun
from bench.host.machine import read_node_facts
from bench.host.network import (
    Interface,
    InterfaceError,
    check_rendezvous_interface,
    select_interface,
    wait_for_hostnames,
)
from bench.node.control import HarnessDisconnected, NodeControl
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
from bench.node.launchers.base import WORKER_MODULE, worker_arguments
from bench.node.launchers.torchrun import interface_environment, torchrun_command
from bench.node.rendezvous import (
    INTERFACE_VARIABLE,
    RENDEZVOUS_WAIT_VARIABLE,
    Rendezvous,
    RendezvousError,
    read_rendezvous,
)
from bench.node.supervisor import ExternalRanks, ProcessGroup, WorkerProcess
from bench.node.transfer import encode_folder
from bench.plugins import registry
from bench.plugins.backend import Backend
from bench.plugins.workload import DataProblem
from bench.telemetry import sampler

READY_LINE = "scaling-ready"
"""Said on standard output once the case is where ranks that somebody else starts will read it."""
FOLLOWER_GRACE_S = 5.0
"""How much later than its ranks' own time a node's ends: the first to notice says more."""


def required_roles(case: Case, backend: Backend, *, services_provided: bool = False) -> tuple[Role, ...]:
    """The roles whose processes a site starts: those of the backend, and a sampler where the case has telemetry.

    ``services_provided``: the site keeps the backend's services itself (:func:`bench.core.case.roles_to_start`).
    """
    roles = roles_to_start(backend.launch(case), services_provided=services_provided)
    return (*roles, *((sampler.ROLE,) if case.telemetry != "off" else ()))


def local_process_numbers(role: Role, case: Case, node: int) -> tuple[int, ...]:
    """Which processes of a role run on a node (pure): its share of the ranks, and one observer."""
    if role.observer:
        return (node,)
    return tuple(number for number in range(role.count) if number // case.ranks_on_a_node == node)


def process_environment(
    role: Role, number: int, case: Case, rendezvous: Rendezvous, interface: Interface
) -> dict[str, str]:
    """The environment of one process (pure), by the names that torchrun made common."""
    ranks_per_node = case.ranks_on_a_node
    return {
        "RANK": str(number),
        "WORLD_SIZE": str(role.count),
        "LOCAL_RANK": str(number % ranks_per_node),
        "LOCAL_WORLD_SIZE": str(min(ranks_per_node, role.count)),
        "MASTER_ADDR": rendezvous.rendezvous_host,
        "MASTER_PORT": str(rendezvous.rendezvous_port),
        **interface_environment(interface),
        **({"OWN_ADDR": interface.address} if rendezvous.nodes > 1 else {}),
        **role.env,
    }


class NodeAgent:
    """This node's part of a trial."""

    def __init__(
        self,
        case: Case,
        rendezvous: Rendezvous,
        interface: Interface,
        out: Path,
        ranks: str,
        case_file: Path | None,
        *,
        services_provided: bool = False,
    ) -> None:
        self.services_provided = services_provided
        self.case, self.rendezvous, self.interface, self.out, self.ranks = case, rendezvous, interface, out, ranks
        self.announce_ready = case_file is not None
        self.case_file = case_file or out / f".case-{rendezvous.node}.json"
        local_ranks = range(rendezvous.node * case.ranks_on_a_node, (rendezvous.node + 1) * case.ranks_on_a_node)
        self.process_group = ProcessGroup(out, ExternalRanks(out, local_ranks) if ranks == "elsewhere" else None)

    def play(self, control: NodeControl) -> ExitReport:
        """Start what belongs here and watch it to its end. Raises :class:`bench.node.control.HarnessDisconnected`."""
        self.case_file.write_text(self.case.model_dump_json())
        if self.announce_ready:
            print(READY_LINE, flush=True)
        backend = registry.load_backend(self.case.backend)
        # Ranks that others start import by themselves what they need.
        context = (
            start_forkserver(backend.preload) if self.ranks == "own" else start_forkserver((), always=(WORKER_MODULE,))
        )
        try:
            for role in required_roles(self.case, backend, services_provided=self.services_provided):
                for worker in self._start_workers(context, role):
                    self.process_group.workers.append(worker)
            return self.process_group.watch(
                self.case.timeout_s + (FOLLOWER_GRACE_S if self.rendezvous.node else 0), control
            )
        finally:
            self.process_group.end()
            self.case_file.unlink(missing_ok=True)

    def _start_workers(self, context: Any, role: Role) -> Iterator[WorkerProcess]:
        if role.name == "rank" and self.ranks == "elsewhere":
            return
        for number in local_process_numbers(role, self.case, self.rendezvous.node):
            log = self.out / f"{role.name}-{number}.log"
            arguments = worker_arguments(str(self.case_file), str(self.out), role.name)
            env: Mapping[str, str] = process_environment(role, number, self.case, self.rendezvous, self.interface)
            command: tuple[str, ...] = ()
            by_torchrun = role.name == "rank" and self.ranks == TORCHRUN
            if by_torchrun:
                command = torchrun_command(self.case, self.rendezvous, self.interface, arguments)
                env = {
                    **interface_environment(self.interface),
                    "OWN_ADDR": self.interface.address,
                    "OMP_NUM_THREADS": "1",
                }
            elif role.fanout == "mpi":
                raise RendezvousError(
                    f"{self.case.backend} over {self.case.transport}: mpirun starts its ranks, "
                    f"not a node ({find_mpirun() or 'no mpirun here'})"
                )
            birth = ProcessSpec(log=log, env=env, arguments=arguments, command=command)
            name = TORCHRUN if by_torchrun else None
            yield WorkerProcess(role, number, start_process(context, birth, f"{role.name}-{number}"), log, name)
            if by_torchrun:
                # It starts the others of this node.
                return


def with_local_data(case: Case) -> Case:
    """The case with its data where this node's ranks can read it: as it was prepared, or prepared again from the same
    source. Raises :class:`DataProblem` where that gives other data."""
    if case.data is None or Path(case.data.path).exists():
        return case
    prepared = registry.load_workload(case.workload).prepare(case)
    if prepared is None or prepared.digest != case.data.digest:
        raise DataProblem(
            f"{case.data.name} is other data here than on the harness's machine; copy it to "
            f"{case.data.path}, or name the same files"
        )
    return case.model_copy(update={"data": prepared})


@contextmanager
def result_folder(out: Path, *, fresh: bool) -> Iterator[Path]:
    """The folder for what the ranks leave. ``fresh``: for this trial only, closed to others, gone afterwards.

    Raises ``OSError`` where a fresh one is there already, or can't be made.
    """
    if not fresh:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    out.mkdir(mode=0o700)
    try:
        yield out
    finally:
        shutil.rmtree(out, ignore_errors=True)


def run(
    case: Case,
    env: Mapping[str, str],
    out: Path,
    ranks: str,
    control: NodeControl,
    case_file: Path | None = None,
    *,
    services_provided: bool = False,
) -> int:
    """Play this node's part and write its last word; returns the exit status. ``case_file``: where ranks that somebody
    else starts read the case."""
    node_text = env.get("SCALING_NODE", "0")
    node = int(node_text) if node_text.isdigit() else 0
    scene, problem = None, None
    try:
        rendezvous = read_rendezvous(env)
        node = rendezvous.node
        wait_for_hostnames([rendezvous.rendezvous_host], float(env.get(RENDEZVOUS_WAIT_VARIABLE) or 0))
        interface = select_interface(rendezvous.rendezvous_host, rendezvous.nodes, env.get(INTERFACE_VARIABLE) or None)
        if rendezvous.node == 0 and rendezvous.nodes > 1:
            check_rendezvous_interface(interface, rendezvous.rendezvous_host)
        scene = NodeAgent(
            with_local_data(case), rendezvous, interface, out, ranks, case_file, services_provided=services_provided
        ).play(control)
    except HarnessDisconnected:
        raise
    except (RendezvousError, InterfaceError, DataProblem) as error:
        problem = str(error)
        print(problem, file=sys.stderr, flush=True)
    except Exception as error:
        traceback.print_exc()
        problem = traceback.format_exception_only(error)[-1].strip()
    end = NodeReport(facts=read_node_facts(node), exit_report=scene, problem=problem)
    write_model(out, end.file, end)
    return 0 if scene is not None and scene.succeeded else 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.node.agent", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--case",
        type=Path,
        help="file with the case as JSON; with --stdio it is written there, for ranks that somebody else starts",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what the ranks leave")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="make that folder for this trial only, closed to others, and remove it afterwards",
    )
    parser.add_argument(
        "--ranks",
        choices=("own", TORCHRUN, "elsewhere"),
        default="own",
        help="who starts this node's ranks: itself, torchrun, or somebody else",
    )
    parser.add_argument(
        "--services-provided",
        action="store_true",
        help="start ranks only: the site keeps the services that the backend needs, such as a Dask cluster",
    )
    parser.add_argument("--parcel", action="store_true", help="print what the ranks left, as lines")
    parser.add_argument("--stdio", action="store_true", help="read the case, and orders, from standard input")
    chosen = parser.parse_args(arguments)
    if not chosen.stdio and chosen.case is None:
        parser.error("--case FILE, or --stdio")
    control = NodeControl(listen=chosen.stdio)
    try:
        text = json.dumps(control.read_first_line()) if chosen.stdio else chosen.case.read_text()
        case_file = chosen.case if chosen.stdio else None
        with result_folder(chosen.out, fresh=chosen.fresh) as out:
            status = run(
                Case.model_validate_json(text),
                os.environ,
                out,
                chosen.ranks,
                control,
                case_file,
                services_provided=chosen.services_provided,
            )
            if chosen.parcel or chosen.stdio:
                for line in encode_folder(out):
                    print(line)
                sys.stdout.flush()
    except HarnessDisconnected:
        return 1
    return status


if __name__ == "__main__":
    code = main()
    # Frameworks' helpers and the warm parent are not waited for: all that counts is written by now.
    sys.stdout.flush()
    os._exit(code)
