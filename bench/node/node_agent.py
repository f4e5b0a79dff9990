"""The processes of a trial on one node: which are started here, and how each is started."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from bench.core.case import Case, Role
from bench.core.exit_report import MPIRUN, TORCHRUN, ExitReport
from bench.host.certificate import CERTIFICATE_VARIABLE, create_certificate, write_certificate
from bench.host.given_variables import with_given
from bench.host.installation import find_mpirun
from bench.host.scratch import SHARED_MEMORY_VARIABLE, open_scratch
from bench.node.external_ranks import ExternalRanks
from bench.node.forkserver import ProcessSpec, start_process
from bench.node.launchers.base import worker_arguments, worker_command
from bench.node.launchers.mpirun import mpirun_command
from bench.node.launchers.torchrun import torchrun_command
from bench.node.layout import NodeLayout, interface_environment
from bench.node.program_copy import remove_program_copy, write_program_copy
from bench.node.rendezvous import RendezvousError
from bench.node.supervisor import ControlChannel, ProcessGroup
from bench.node.worker_process import WorkerProcess

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
