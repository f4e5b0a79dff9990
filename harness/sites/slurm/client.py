"""Slurm's command line tools: submit, look, cancel; and what their answers mean."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

COMMAND_TIMEOUT_S = 60.0
"""How long one of Slurm's commands may take to answer."""
KEPT_SLURM_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS")
ACTIVE_STATES = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING")
PENDING_STATES = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_FED")
SQUEUE_FORMAT = "%A|%T|%N|%r"

# By how Slurm's reason of a job that waits begins (its REASON CODES, and what it says in words): what only a person
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
    """Slurm did not take the job; says what it said."""


class SlurmUnavailable(Exception):
    """One of Slurm's commands has said nothing of use, for now or because it is not here; the text says which."""


class SlurmJobState(NamedTuple):
    """What Slurm says of a job. ``hosts``: its node list, in Slurm's own spelling; ``reason``: of its state."""

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
        """It waits for what will not come by itself."""
        return self.is_pending and CANNOT_START_REASONS.match(self.reason) is not None

    @property
    def said(self) -> str:
        if not self.state:
            return self.reason
        reason = self.reason if self.reason not in ("", "None", self.state) else ""
        return f"Slurm says {self.state}" + (f" ({reason})" if reason else "")


UNKNOWN_JOB = SlurmJobState("", reason="Slurm knows the job no more")


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
    """Trouble by node, from ``sinfo --Node --format=%N|%T|%E`` (pure). A ``*`` after the state: it does not answer."""
    found = {}
    for line in text.splitlines():
        name, state, reason = (*line.strip().split("|", 2), "", "")[:3]
        if BAD_NODE_STATES.search(state):
            silent = " and does not answer" if state.endswith("*") else ""
            why = f" ({reason})" if reason not in ("", "none") else ""
            found[name] = f"Slurm says the node is {state.rstrip('*').upper()}{silent}{why}"
    return found


def submission_environment(env: Mapping[str, str], script: str, more: Mapping[str, str]) -> dict[str, str]:
    """The environment that sbatch runs in (pure): what a user's own says is overruled by what the script says, and
    nothing of the job that the harness itself may run in is handed on."""
    set_by_script = {
        name.replace("-", "_").upper() for name in re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)
    }
    set_by_script |= {"TIMELIMIT"} if "TIME" in set_by_script else set()
    overruled = {f"SBATCH_{name}" for name in set_by_script} | {"SBATCH_REQUEUE", "SBATCH_WAIT", "SBATCH_ARRAY_INX"}
    inside_job = "SLURM_JOB_ID" in env
    kept = {
        name: value
        for name, value in env.items()
        if name not in overruled and (not inside_job or not name.startswith("SLURM_") or name in KEPT_SLURM_VARIABLES)
    }
    return {**kept, **more}


def submit(script: Path, folder: Path, name: str, env: Mapping[str, str]) -> str:
    """The id of the job, which runs in ``folder``. Raises :class:`SubmissionRejected`."""
    asked = ["sbatch", "--parsable", f"--chdir={folder}", f"--job-name={name}", str(script)]
    try:
        result = _run(asked, env)
    except BaseException as problem:
        # It may have been taken all the same.
        with suppress(SlurmUnavailable):
            _run(["scancel", "--me", f"--name={name}"])
        if isinstance(problem, SlurmUnavailable):
            raise SubmissionRejected(str(problem)) from None
        raise
    job = result.stdout.strip().split(";")[0]
    if result.returncode or not job.isdigit():
        raise SubmissionRejected(error_text(result.stderr or result.stdout))
    return job


def query_job(job: str) -> SlurmJobState:
    """What Slurm says of the job; :data:`UNKNOWN_JOB` where it says nothing. Raises :class:`SlurmUnavailable`."""
    result = _run(["squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={SQUEUE_FORMAT}"])
    if result.returncode == 0:
        return read_squeue(result.stdout, job) or _query_accounting(job)
    if "Invalid job id" in result.stderr:
        return _query_accounting(job)
    raise SlurmUnavailable(error_text(result.stderr))


def _query_accounting(job: str) -> SlurmJobState:
    """What the accounts say of a job that the controller has forgotten, where there are any."""
    try:
        result = _run(
            ["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job}", "--format=State,NodeList,Reason"]
        )
    except SlurmUnavailable:
        return UNKNOWN_JOB
    return (read_sacct(result.stdout) if result.returncode == 0 else None) or UNKNOWN_JOB


def cancel(*names: str) -> None:
    """End jobs, or steps of them. Raises :class:`SlurmUnavailable`."""
    _run(["scancel", *names])


def step_ids(job: str, name: str) -> list[str]:
    """The ids of the job's steps of this name that are under way. Raises :class:`SlurmUnavailable`."""
    said = _run(["squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i|%j"]).stdout
    pairs = (line.strip().partition("|") for line in said.splitlines())
    return [step for step, _, named in pairs if named == name]


def node_problems(hosts: Collection[str]) -> dict[str, str]:
    """What is wrong with nodes, by name; nothing of those that are well, or where Slurm does not answer."""
    try:
        result = _run(["sinfo", "--noheader", "--Node", f"--nodes={','.join(hosts)}", "--format=%N|%T|%E"])
    except SlurmUnavailable:
        return {}
    return read_nodes(result.stdout)


@cache
def mpi_unavailable_reason(kind: str) -> str | None:
    """Why srun can't start MPI ranks this way here, or ``None``."""
    try:
        result = _run(["srun", "--mpi=list"])
    except SlurmUnavailable as problem:
        return str(problem)
    supported = re.findall(r"\b(pmi\w+)\b", result.stdout + result.stderr)
    return None if kind in supported else f"srun --mpi=list knows no {kind}"


def error_text(text: str) -> str:
    """The words of one of Slurm's commands as one line, without its own name."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or "no word of why"


def _run(command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Raises :class:`SlurmUnavailable`."""
    try:
        return subprocess.run(
            command,
            env=None if env is None else dict(env),
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise SlurmUnavailable(f"{command[0]} gave no answer within {COMMAND_TIMEOUT_S:g} s") from None
    except OSError as problem:
        raise SlurmUnavailable(f"{command[0]} can't be run ({problem.strerror})") from None


def python_path(env: Mapping[str, str], root: Path) -> str:
    """PYTHONPATH with this source tree in front (pure)."""
    return os.pathsep.join([str(root), *([env["PYTHONPATH"]] if env.get("PYTHONPATH") else [])])
