"""A real Slurm for the tests: slurmctld on a head node, a slurmd on each further node of a cluster, munged on all.

    with cluster(["head", "n1", "n2"], private=PRIVATE) as nodes, serving(folder, nodes) as slurm:
        slurm.run(["srun", "-N", "2", "hostname"])

The first node is the head: commands run there, since no node is reached from outside. ``slurm.env`` is what Slurm's
commands need in their environment. Each node claims :data:`CPUS` processors, whatever there are, so that jobs fit.
There is no accounting: sacct has nothing to say, as on many small clusters.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import namespaces
from tests.support.namespaces import Node

MUNGE, PMIX = "/run/munge", "/run/pmix"
PRIVATE = (MUNGE, PMIX)
"""What each node must have for itself: Slurm's PMIx plugin makes sockets of the same names on all of them, and a munged
that all of them shared would take what was sent to several for a replay."""
CPUS = 8
PATIENCE_S = 20
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue")

CONFIGURATION = """\
ClusterName=little
SlurmctldHost={head.name}({head.address})
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmdTimeout=5
SlurmctldTimeout=10
TCPTimeout=2
KillWait=2
CompleteWait=0
SchedulerParameters=sched_min_interval=100000,bf_interval=1
{nodes}
PartitionName=short Nodes={names} Default=YES MaxTime=30 State=UP
"""
NODE = "NodeName={node.name} NodeAddr={node.address} CPUs={cpus} State=UNKNOWN"


def unavailable_reason() -> str | None:
    """Why Slurm can't be run here, with the remedy, or ``None``."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    # Debian's PMIx plugin loads the library by a name that only the package for developers brings.
    missing += ["libpmix.so"] if not list(Path("/usr/lib").glob("*/pmix2/lib/libpmix.so")) else []
    remedy = "apt-get install --no-install-recommends slurm-wlm munge libpmix-dev"
    return namespaces.unavailable_reason() or (f"no {', '.join(missing)}: {remedy}" if missing else None)


@dataclass
class LittleSlurm:
    """A running Slurm. ``env``: what its commands need in their environment."""

    folder: Path
    head: Node
    workers: tuple[Node, ...]
    env: Mapping[str, str]
    daemons: list[subprocess.Popen] = field(default_factory=list)

    def run(self, command: Sequence[str | Path], *, check: bool = True, timeout: float = 60) -> str:
        """What a command on the head says."""
        return self.head.run(command, env=self.env, check=check, timeout=timeout).stdout

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait, run or are being ended."""
        return self.run(["squeue", "--noheader", "--format=%A"]).split()

    def start_worker(self, node: Node) -> None:
        """Also after all that ran there was killed."""
        self.start_munge(node)
        self._daemon(node, "slurmd", "-D", "-N", node.name)

    def start_munge(self, node: Node) -> None:
        place, key = node.outside(MUNGE), self.folder / "munge.key"
        (place / "munge.socket.2").unlink(missing_ok=True)
        # Forced: pytest's folders are closed to others, and all that asks it here is root's.
        self._daemon(
            node,
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={MUNGE}/munge.socket.2",
            f"--pid-file={MUNGE}/pid",
            f"--seed-file={MUNGE}/seed",
            f"--log-file={MUNGE}/log",
        )
        deadline = time.monotonic() + PATIENCE_S
        while not (place / "munge.socket.2").exists():
            assert self.daemons[-1].poll() is None, self.said()
            assert time.monotonic() < deadline, f"no munged on {node.name}: {self.said()}"
            time.sleep(0.01)

    def ready(self) -> None:
        """Wait until every node is idle."""
        deadline = time.monotonic() + PATIENCE_S
        while self.run(["sinfo", "--noheader", "--Node", "--format=%T"]).split() != ["idle"] * len(self.workers):
            assert time.monotonic() < deadline, self.run(["sinfo", "--Node", "--long"]) + self.said()
            time.sleep(0.05)

    def said(self) -> str:
        """The last lines of the daemons, for a test that failed."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{log.name}: {line}" for log in logs for line in log.read_text().splitlines()[-15:])

    def _daemon(self, node: Node, *command: str) -> None:
        with (self.folder / f"{command[0]}-{node.name}.log").open("a") as log:
            self.daemons.append(node.start(command, env=self.env, stdout=log, stderr=log, start_new_session=True))


@contextmanager
def serving(folder: Path, nodes: Mapping[str, Node]) -> Iterator[LittleSlurm]:
    """Slurm on the nodes, all idle; the first is the head. Its daemons end with the context. ``folder`` is seen by
    all nodes."""
    head, *workers = nodes.values()
    slurm = LittleSlurm(folder, head, tuple(workers), {"SLURM_CONF": str(folder / "slurm.conf")})
    _configure(slurm)
    with ExitStack() as stack:
        stack.callback(_end, slurm)
        slurm.start_munge(head)
        slurm._daemon(head, "slurmctld", "-D")
        for node in workers:
            slurm.start_worker(node)
        slurm.ready()
        yield slurm


def _configure(slurm: LittleSlurm) -> None:
    folder, workers = slurm.folder, slurm.workers
    for name in ("state", *(f"spool-{node.name}" for node in workers)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    lines = "\n".join(NODE.format(node=node, cpus=CPUS) for node in workers)
    names = ",".join(node.name for node in workers)
    text = CONFIGURATION.format(head=slurm.head, folder=folder, nodes=lines, names=names)
    (folder / "slurm.conf").write_text(text)
    (folder / "mpi.conf").write_text(f"PMIxCliTmpDirBase={PMIX}\n")


def _end(slurm: LittleSlurm) -> None:
    for daemon in slurm.daemons:
        daemon.kill()
    for daemon in slurm.daemons:
        daemon.wait()
