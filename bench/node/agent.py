"""One node of a trial: starts the processes of a case on a machine, supervises them and reports how they ended.

    python -m bench.node.agent --case case.json --out FOLDER

Every site runs its nodes through :class:`NodeAgent`: the local site inside the harness, the others as this command,
once on each node. The agent finds out from the environment which node it is (:mod:`bench.node.rendezvous`), keeps the
time limit of the trial, so that waiting in a queue does not count, and writes ``node-<n>.json`` as its very last act.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.core.case import Case, Role
from bench.core.exit_report import MPIRUN, TORCHRUN, ExitReport, NodeReport
from bench.core.frozen_model import write_model
from bench.host.certificate import CERTIFICATE_VARIABLE, create_certificate, write_certificate
from bench.host.given_variables import with_given
from bench.host.installation import find_mpirun
from bench.host.logs import MAX_ERROR_LENGTH, describe_exception, printable_line, traceback_lines
from bench.host.machine import read_node_facts
from bench.host.network import InterfaceError
from bench.host.running_code import CODE
from bench.host.scratch import SHARED_MEMORY_VARIABLE, close_scratch, open_scratch
from bench.node.control import HarnessDisconnected, NodeControl
from bench.node.external_ranks import ExternalRanks
from bench.node.forked import StartError, continue_resource_tracker, end_forkserver
from bench.node.forkserver import ProcessSpec, start_forkserver, start_process
from bench.node.guardian import DEADLINE_VARIABLE
from bench.node.launchers.base import WORKER_MODULE, worker_arguments, worker_command
from bench.node.launchers.mpirun import mpirun_command
from bench.node.launchers.torchrun import torchrun_command
from bench.node.layout import NodeLayout, interface_environment, read_layout, required_roles
from bench.node.program_copy import remove_program_copy, write_program_copy
from bench.node.rendezvous import RendezvousError
from bench.node.supervisor import ControlChannel, ProcessGroup
from bench.node.transfer import encode_folder, result_folder
from bench.node.worker_process import WorkerProcess
from bench.plugins import registry
from bench.plugins.workload import DataProblem

READY_LINE = "scaling-ready"
"""Printed once the case file, and a program's files, are where ranks that another program starts will read it."""
DEADLINE_MARGIN_S = 120.0
"""How long after the time limit of a trial all its processes on a host have ended, whatever became of its agent. Stack
dumps and the transfer of files are done long before."""
FOLLOWER_GRACE_S = 5.0
"""How much longer than node 0 the other nodes wait: the node that notices a timeout first reports the most."""

RankStarter = Literal["own", "torchrun", "elsewhere"]
"""Who starts the ranks of a node: its agent, torchrun under the agent, or a program outside of it."""


class NodeAgent:
    """The processes of a trial on one machine: starts them, supervises them, ends them.

    Args:
        case: The case that they run.
        roles: The kinds of processes it needs, in the order in which they are started.
        layout: Which of them run here, and how they reach the others.
        out: Existing folder for their records and logs.
        case_file: The file in which they find the case.
        ranks: Who starts the ranks.
        certificate: That of the trial, as PEM text, where other agents start processes of it too; ``None``: the agent
            makes one if its processes need it.
    """

    def __init__(
        self,
        case: Case,
        roles: Sequence[Role],
        layout: NodeLayout,
        out: Path,
        case_file: Path,
        ranks: RankStarter = "own",
        certificate: str | None = None,
    ) -> None:
        self.case, self.roles, self.layout, self.ranks, self.certificate = case, roles, layout, ranks, certificate
        self.out, self.case_file = out, case_file
        self.temporary: Path | None = None
        """The folder for temporary files of its processes, which nobody else can read; it is removed with them."""
        self.certificate_environment: dict[str, str] = {}
        self.program_written = False
        external_ranks = None
        if ranks == "elsewhere":
            external_ranks = ExternalRanks(out, layout.process_numbers(Role(name="rank", count=case.ranks)))
        self.process_group = ProcessGroup(out, external_ranks)

    def start(self, context: Any) -> None:
        """Start the processes from a forkserver; if one can't be started, end the others.

        Args:
            context: What :func:`bench.node.forkserver.start_forkserver` returned.

        Raises:
            RendezvousError: Where MPI ranks would have to be started on several nodes, or the nodes have no certificate
                in common.
            StartError: If the forkserver ends, is stopped or hangs meanwhile.
        """
        self.temporary = Path(tempfile.mkdtemp(prefix="trial-", dir=open_scratch()))
        try:
            self.write_program()
            if any(role.certified for role in self.roles):
                certificate = write_certificate(self._certificate_text(), self.temporary)
                self.certificate_environment = {CERTIFICATE_VARIABLE: str(certificate)}
            for role in self.roles:
                for worker in self._start_role(context, role):
                    self.process_group.add(worker)
        except BaseException:
            self.end()
            raise

    def write_program(self) -> None:
        """Write the copy of the user's program that the ranks of this node run. A second call does nothing."""
        if self.case.program is not None and not self.program_written:
            write_program_copy(self.case.program, self.out, self.layout.rendezvous.node)
            self.program_written = True

    def watch(self, timeout_s: float, control: ControlChannel | None = None) -> ExitReport:
        """Wait until the trial ends on this machine, or end it ``timeout_s`` seconds after its first process
        was started; nothing of it is left running.

        Raises:
            HarnessDisconnected: If ``control`` finds that the harness is gone.
        """
        try:
            return self.process_group.watch(timeout_s, control)
        finally:
            self.end()

    def end(self) -> None:
        """End all processes now. A second call does nothing."""
        self.process_group.end()
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
        if self.program_written:
            remove_program_copy(self.out, self.layout.rendezvous.node)

    def _certificate_text(self) -> str:
        rendezvous = self.layout.rendezvous
        if self.certificate is None and len(self.layout.local_nodes) < rendezvous.nodes:
            raise RendezvousError(
                f"{self.case.backend}: the {rendezvous.nodes} nodes of the trial were given no certificate in common "
                "(--certificate)"
            )
        try:
            return self.certificate or create_certificate()
        except ModuleNotFoundError as problem:
            raise RendezvousError(f"{self.case.backend}: {problem} on this node: pip install cryptography") from None

    def _start_role(self, context: Any, role: Role) -> Iterator[WorkerProcess]:
        numbers = self.layout.process_numbers(role)
        if role.name == "rank" and self.ranks == "elsewhere":
            return
        launcher = self._launcher(role)
        for number in numbers[:1] if launcher else numbers:
            log = self.out / f"{role.name}-{number}.log"
            spec = self._launcher_spec(launcher, role, log) if launcher else self._worker_spec(role, number, log)
            process = start_process(context, spec, f"{role.name}-{number}")
            yield WorkerProcess(role, number, process, log, launcher)

    def _launcher(self, role: Role) -> str | None:
        """The program that starts the processes of a role; ``None``: the agent forks them."""
        if role.fanout == "mpi":
            return MPIRUN
        return TORCHRUN if role.name == "rank" and self.ranks == TORCHRUN else None

    def _worker_spec(self, role: Role, number: int, log: Path) -> ProcessSpec:
        case_file, out = str(self.case_file), str(self.out)
        # A program finds an interpreter that has loaded nothing.
        fresh = self.case.program is not None and role.name == "rank"
        return ProcessSpec(
            log=log,
            env={
                **(with_given({}, self.case.env) if fresh else {}),
                **self.layout.environment(role, number),
                **(self.certificate_environment if role.certified else {}),
                **(self.process_group.trial_processes.environment() if role.observer else {}),
                "TMPDIR": str(self.temporary),
            },
            arguments=worker_arguments(case_file, out, role.name),
            command=worker_command(sys.executable, case_file, out, role.name) if fresh else (),
            namespace=self.layout.node_of(role, number).namespace,
        )

    def _launcher_spec(self, launcher: str, role: Role, log: Path) -> ProcessSpec:
        case_file, out, rendezvous = str(self.case_file), str(self.out), self.layout.rendezvous
        if launcher == TORCHRUN:
            interface = self.layout.local_nodes[0].interface
            env = {
                **interface_environment(interface),
                "OWN_ADDR": interface.address,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(self.temporary),
            }
            env = with_given(env, self.case.env)
            arguments = worker_arguments(case_file, out, role.name)
            return ProcessSpec(log, env, command=torchrun_command(self.case, rendezvous, interface, arguments))
        if rendezvous.nodes > 1:
            raise RendezvousError(
                f"{self.case.backend} over {self.case.transport}: a node can't start MPI ranks on other nodes; "
                "the site has to start them by mpirun or srun"
            )
        command = mpirun_command(
            role.count,
            worker_command(sys.executable, case_file, out, role.name),
            mpirun=find_mpirun() or "mpirun",
            as_root=os.geteuid() == 0,
            env=with_given(os.environ, self.case.env),
        )
        env = {**self.layout.launcher_environment(role), **_mpi_environment(), "TMPDIR": str(self.temporary)}
        return ProcessSpec(log, with_given(env, self.case.env), command=command)


def _mpi_environment() -> dict[str, str]:
    """Where Open MPI puts its shared memory: into the folder that is removed if it can't do so itself."""
    shared_memory = os.environ.get(SHARED_MEMORY_VARIABLE)
    return {"OMPI_MCA_btl_sm_backing_directory": shared_memory} if shared_memory else {}


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
    # Ranks that another program starts, and those of a user's program, import by themselves what they need.
    forked_ranks = options.ranks == "own" and not backend.starts_programs
    modules = (backend.preload,) if forked_ranks else ((), (WORKER_MODULE,))
    # Should this process be stopped by a signal, the guardian of the forkserver ends it.
    os.environ[DEADLINE_VARIABLE] = str(time.monotonic() + case.timeout_s + DEADLINE_MARGIN_S)
    context = start_forkserver(*modules, inside_job=True)
    try:
        agent.start(context)
        return agent.watch(case.timeout_s + (FOLLOWER_GRACE_S if node else 0), control)
    finally:
        case_file.unlink(missing_ok=True)


def _packages_of(case: Case) -> tuple[str, ...]:
    """The distributions of the case's backend; none where it can't be loaded, which is reported elsewhere."""
    with suppress(Exception):
        return registry.backend_of(case).packages
    return ()


def _read_certificate(source: str | None, control: NodeControl) -> str | None:
    if source is None:
        return None
    return str(control.read_first_line()) if source == "-" else Path(source).read_text()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.node.agent", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--case",
        type=Path,
        help="file with the case as JSON; with --stdio the case is written there, for ranks that another program "
        "starts",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for what the processes leave")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="create that folder for this trial only, inaccessible to other users, and remove it afterwards",
    )
    parser.add_argument(
        "--ranks",
        choices=("own", TORCHRUN, "elsewhere"),
        default="own",
        help="who starts the ranks of this node: the agent, torchrun, or another program (default: own)",
    )
    parser.add_argument(
        "--services-provided",
        action="store_true",
        help="start ranks only: the site keeps the services that the backend needs, such as a Dask cluster",
    )
    parser.add_argument("--transfer", action="store_true", help="print the files that the processes left, as lines")
    parser.add_argument("--stdio", action="store_true", help="read the case, and commands, from standard input")
    parser.add_argument(
        "--certificate",
        metavar="FILE",
        help="the trial's certificate with its private key, where its nodes need the same; -: with --stdio, the line "
        "before the case, as a JSON string",
    )
    chosen = parser.parse_args(arguments)
    if not chosen.stdio and chosen.case is None:
        parser.error("--case FILE, or --stdio")
    if not chosen.stdio and chosen.certificate == "-":
        parser.error("--certificate -: with --stdio only")
    control = NodeControl(listen=chosen.stdio)
    # The processes of the node import nothing from the folder in which they happen to be started.
    os.environ["PYTHONSAFEPATH"] = "1"
    if not {"site-packages", "dist-packages"}.intersection(CODE.parts):
        # This package may have been found in that folder only.
        paths = [str(CODE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))
    try:
        certificate = _read_certificate(chosen.certificate, control)
        text = json.dumps(control.read_first_line()) if chosen.stdio else chosen.case.read_text()
        case_file = chosen.case if chosen.stdio else None
        with result_folder(chosen.out, fresh=chosen.fresh) as out:
            options = AgentOptions(out, chosen.ranks, case_file, chosen.services_provided, certificate)
            status = run(Case.model_validate_json(text), os.environ, options, control)
            if chosen.transfer or chosen.stdio:
                for line in encode_folder(out):
                    print(line)
                sys.stdout.flush()
    except HarnessDisconnected:
        return 1
    finally:
        end_forkserver()
        continue_resource_tracker()
        close_scratch()
    return status


if __name__ == "__main__":
    code = main()
    # Helper threads of frameworks and the forkserver are not waited for: everything that counts is written.
    sys.stdout.flush()
    os._exit(code)
