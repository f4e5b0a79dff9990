"""Slurm's command line tools: submit, query and cancel jobs, and the meaning of what they print."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.host.commands import CommandTimeout, run_command
from bench.host.variables import cleaned_environment
from harness.sites.slurm.options import SlurmTimeouts

KEPT_SLURM_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS")
ACTIVE_STATES = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING")
PENDING_STATES = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_FED")
SQUEUE_FORMAT = "%A|%T|%N|%r"

# The beginnings of those reasons of a pending job (squeue's job reason codes, and reasons in words) that only a person
# can change. Limits over all of a user's jobs pass by themselves; limits of a single job do not. Maintenance and holds
# pass too; nodes that are named as unavailable are down or drained.
CANNOT_START_REASONS = re.compile(
    r"(Nodes required for job are DOWN|ReqNodeNotAvail, UnavailableNodes:\w|NodeDown"
    r"|Partition(Down|Inactive|NodeLimit|TimeLimit)"
    r"|BadConstraints|DependencyNeverSatisfied|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
    r"|launch failed requeued held|Reservation(Deleted|NotAvail)|AssociationJobLimit"
    r"|(Assoc|QOS)(Max|Min)\w*(PerJob|PerNode)|(Assoc|QOS)Min\w*NotSatisfied|QOSUsageThreshold)",
    re.IGNORECASE,
)
BAD_NODE_STATES = re.compile(r"^(down|drain|fail|error|unknown|power|reboot|no_respond)|\*$", re.IGNORECASE)


class SubmissionRejected(Exception):
    """Slurm did not accept the job. The text is Slurm's message."""


class SlurmUnavailable(Exception):
    """One of Slurm's commands failed, for now or because it is not installed. The text names it."""


class SlurmJobState(NamedTuple):
    """A job as Slurm reports it.

    Attributes:
        state: Slurm's name of the state; empty where Slurm does not know the job.
        hosts: The node list, in Slurm's notation (``n[1-3]``).
        reason: Why it is in that state.
    """

    state: str
    hosts: str = ""
    reason: str = ""

    @property
    def is_pending(self) -> bool:
        return self.state in PENDING_STATES

    @property
    def over(self) -> bool:
        return self.state not in (*PENDING_STATES, *ACTIVE_STATES)

    @property
    def cannot_start(self) -> bool:
        """It waits for something that will not happen by itself."""
        return self.is_pending and CANNOT_START_REASONS.match(self.reason) is not None

    @property
    def description(self) -> str:
        """``Slurm reports PENDING (PartitionDown)``."""
        if not self.state:
            return self.reason
        reason = self.reason if self.reason not in ("", "None", self.state) else ""
        return f"Slurm reports {self.state}" + (f" ({reason})" if reason else "")


UNKNOWN_JOB = SlurmJobState("", reason="Slurm does not know the job any more")


def read_squeue(text: str, job: str) -> SlurmJobState | None:
    """The job's line of ``squeue --format=%A|%T|%N|%r`` (pure)."""
    for line in text.splitlines():
        number, *rest = line.strip().split("|", 3)
        if number == job and len(rest) == 3:
            return SlurmJobState(rest[0], "" if rest[1] == "(null)" else rest[1], rest[2])
    return None


def read_sacct(text: str) -> SlurmJobState | None:
    """The job's line of ``sacct --parsable2 --format=State,NodeList,Reason`` (pure). It says ``CANCELLED by 0``."""
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) >= 2 and fields[0]:
            return SlurmJobState(fields[0].split()[0].rstrip("+"), fields[1], fields[2] if len(fields) > 2 else "")
    return None


def read_nodes(text: str) -> dict[str, str]:
    """What is wrong with nodes, by name, from ``sinfo --Node --format=%N|%T|%E`` (pure). A ``*`` after the state: the
    node does not answer."""
    problems = {}
    for line in text.splitlines():
        name, state, reason = (*line.strip().split("|", 2), "", "")[:3]
        if BAD_NODE_STATES.search(state):
            silent = " and does not answer" if state.endswith("*") else ""
            detail = f" ({reason})" if reason not in ("", "none") else ""
            problems[name] = f"Slurm reports the node as {state.rstrip('*').upper()}{silent}{detail}"
    return problems


def submission_environment(env: Mapping[str, str], script: str, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of sbatch (pure).

    Args:
        env: The harness's own environment. Variables that would overrule the script's directives are left out, as are
            those of the job that the harness itself may run in, and those of launchers: sbatch passes them on.
        script: The batch script.
        more: Variables to add.
    """
    set_by_script = {
        name.replace("-", "_").upper() for name in re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)
    }
    set_by_script |= {"TIMELIMIT"} if "TIME" in set_by_script else set()
    overruled = {f"SBATCH_{name}" for name in set_by_script} | {"SBATCH_REQUEUE", "SBATCH_WAIT", "SBATCH_ARRAY_INX"}
    inside_job = "SLURM_JOB_ID" in env
    kept = {
        name: value
        for name, value in cleaned_environment(env, inside_job=True).items()
        if name not in overruled and (not inside_job or not name.startswith("SLURM_") or name in KEPT_SLURM_VARIABLES)
    }
    return {**kept, **more}


def error_text(text: str) -> str:
    """The error messages of one of Slurm's commands as one line, without the command's name (pure)."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or "no error message"


class SlurmClient:
    """Slurm's commands, as the user who runs the harness.

    Args:
        command_timeout_s: How long one of the commands may take.
    """

    def __init__(self, command_timeout_s: float = SlurmTimeouts.command_s) -> None:
        self.command_timeout_s = command_timeout_s
        self._mpi_reasons: dict[str, str | None] = {}

    def submit(self, script: Path, folder: Path, name: str, env: Mapping[str, str]) -> str:
        """Submit a batch script, which then runs in ``folder``; returns the job's id.

        Raises:
            SubmissionRejected: There is no such job.
        """
        command = ["sbatch", "--parsable", f"--chdir={folder}", f"--job-name={name}", str(script)]
        try:
            result = self._run(command, env)
        except BaseException as problem:
            # The job may have been accepted all the same.
            with suppress(SlurmUnavailable):
                self._run(["scancel", "--me", f"--name={name}"])
            if isinstance(problem, SlurmUnavailable):
                raise SubmissionRejected(str(problem)) from None
            raise
        job = result.stdout.strip().split(";")[0]
        if result.returncode or not job.isdigit():
            raise SubmissionRejected(error_text(result.stderr or result.stdout))
        return job

    def query_job(self, job: str) -> SlurmJobState:
        """The job's state; :data:`UNKNOWN_JOB` where Slurm has none. Raises :class:`SlurmUnavailable`."""
        result = self._run(["squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={SQUEUE_FORMAT}"])
        if result.returncode == 0:
            return read_squeue(result.stdout, job) or self._query_accounting(job)
        if "Invalid job id" in result.stderr:
            return self._query_accounting(job)
        raise SlurmUnavailable(error_text(result.stderr))

    def _query_accounting(self, job: str) -> SlurmJobState:
        """The state of a job that the controller has forgotten, where the cluster has accounting."""
        query = ["--allocations", "--parsable2", f"--jobs={job}", "--format=State,NodeList,Reason"]
        try:
            result = self._run(["sacct", "--noheader", *query])
        except SlurmUnavailable:
            return UNKNOWN_JOB
        return (read_sacct(result.stdout) if result.returncode == 0 else None) or UNKNOWN_JOB

    def cancel(self, *ids: str) -> None:
        """Cancel jobs, or steps of them. Raises :class:`SlurmUnavailable`."""
        self._run(["scancel", *ids])

    def step_ids(self, job: str, names: Collection[str]) -> list[str]:
        """The ids of the job's running steps of these names. Raises :class:`SlurmUnavailable`."""
        output = self._run(["squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i|%j"]).stdout
        pairs = (line.strip().partition("|") for line in output.splitlines())
        return [step for step, _, step_name in pairs if step_name in names]

    def node_problems(self, hosts: Collection[str]) -> dict[str, str]:
        """What is wrong with nodes, by name; empty for those that are well, or where Slurm does not answer."""
        try:
            result = self._run(["sinfo", "--noheader", "--Node", f"--nodes={','.join(hosts)}", "--format=%N|%T|%E"])
        except SlurmUnavailable:
            return {}
        return read_nodes(result.stdout)

    def mpi_unavailable_reason(self, mpi_type: str) -> str | None:
        """Why srun can't start MPI ranks of this type here, or ``None``. Slurm is asked once."""
        if mpi_type not in self._mpi_reasons:
            self._mpi_reasons[mpi_type] = self._query_mpi(mpi_type)
        return self._mpi_reasons[mpi_type]

    def _query_mpi(self, mpi_type: str) -> str | None:
        try:
            result = self._run(["srun", "--mpi=list"])
        except SlurmUnavailable as problem:
            return str(problem)
        listed = re.findall(r"\b(pmi\w+)\b", result.stdout + result.stderr)
        if mpi_type not in listed:
            return f"srun --mpi=list does not list {mpi_type}"
        return self._load_mpi(mpi_type)

    def _load_mpi(self, mpi_type: str) -> str | None:
        """srun lists a plugin whose libraries are missing; it loads it for a job that it only tests."""
        command = ["srun", f"--mpi={mpi_type}", "--test-only", "true"]
        try:
            result = self._run(command)
        except SlurmUnavailable as problem:
            return str(problem)
        # Other refusals, of a partition or an account, are not about MPI.
        errors = [line for line in result.stderr.splitlines() if re.search(r"\bmpi|pmi", line, re.IGNORECASE)]
        return f"`{shlex.join(command)}` says: {errors[0].strip()}" if result.returncode and errors else None

    def _run(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Raises :class:`SlurmUnavailable`."""
        try:
            return run_command(command, self.command_timeout_s, env=env)
        except CommandTimeout as problem:
            raise SlurmUnavailable(str(problem)) from None
        except OSError as problem:
            raise SlurmUnavailable(f"{command[0]} can't be run ({problem.strerror})") from None
