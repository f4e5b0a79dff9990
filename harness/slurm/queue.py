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

ANSWER_S = 60.0
"""How long one of Slurm's commands may take to answer."""
INSIDE_KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")
UNDER_WAY = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "REQUEUE_FED")
FIELDS = "%A|%T|%N|%r"

# By how Slurm's reason of a job that waits begins (its REASON CODES, and what it says in words): what only a person
# can change. Limits over all of a user's jobs pass by themselves; limits of a single job do not. Maintenance and holds
# pass too; nodes that are named as unavailable are down or drained.
HOPELESS = re.compile(
    r"(Nodes required for job are DOWN|ReqNodeNotAvail, UnavailableNodes:\w|NodeDown"
    r"|Partition(Down|Inactive|NodeLimit|TimeLimit)"
    r"|BadConstraints|DependencyNeverSatisfied|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
    r"|launch failed requeued held|Reservation(Deleted|NotAvail)|AssociationJobLimit"
    r"|(Assoc|QOS)(Max|Min)\w*(PerJob|PerNode)|(Assoc|QOS)Min\w*NotSatisfied|QOSUsageThreshold)",
    re.IGNORECASE,
)
TROUBLED = re.compile(r"^(down|drain|fail|error|unknown|power|reboot|no_respond)|\*$", re.IGNORECASE)


class Refused(Exception):
    """Slurm did not take the job; says what it said."""


class NoAnswer(Exception):
    """One of Slurm's commands has said nothing of use, for now or because it is not here; the text says which."""


class Seen(NamedTuple):
    """What Slurm says of a job. ``hosts``: its node list, in Slurm's own spelling; ``reason``: of its state."""

    state: str
    hosts: str = ""
    reason: str = ""

    @property
    def waits(self) -> bool:
        return self.state in WAITING

    @property
    def over(self) -> bool:
        return self.state not in (*WAITING, *UNDER_WAY)

    @property
    def hopeless(self) -> bool:
        """It waits for what will not come by itself."""
        return self.waits and HOPELESS.match(self.reason) is not None

    @property
    def said(self) -> str:
        if not self.state:
            return self.reason
        reason = self.reason if self.reason not in ("", "None", self.state) else ""
        return f"Slurm says {self.state}" + (f" ({reason})" if reason else "")


VANISHED = Seen("", reason="Slurm knows the job no more")


def read_squeue(text: str, job: str) -> Seen | None:
    """The job's line of ``squeue --format=%A|%T|%N|%r`` (pure)."""
    for line in text.splitlines():
        number, *rest = line.strip().split("|", 3)
        if number == job and len(rest) == 3:
            return Seen(rest[0], "" if rest[1] == "(null)" else rest[1], rest[2])
    return None


def read_sacct(text: str) -> Seen | None:
    """The job's line of ``sacct --parsable2 --format=State,NodeList,Reason`` (pure). It says ``CANCELLED by 0``."""
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) >= 2 and fields[0]:
            return Seen(fields[0].split()[0].rstrip("+"), fields[1], fields[2] if len(fields) > 2 else "")
    return None


def read_nodes(text: str) -> dict[str, str]:
    """Trouble by node, from ``sinfo --Node --format=%N|%T|%E`` (pure). A ``*`` after the state: it does not answer."""
    found = {}
    for line in text.splitlines():
        name, state, reason = (*line.strip().split("|", 2), "", "")[:3]
        if TROUBLED.search(state):
            silent = " and does not answer" if state.endswith("*") else ""
            why = f" ({reason})" if reason not in ("", "none") else ""
            found[name] = f"Slurm says the node is {state.rstrip('*').upper()}{silent}{why}"
    return found


def submission_environment(env: Mapping[str, str], script: str, more: Mapping[str, str]) -> dict[str, str]:
    """The environment that sbatch runs in (pure): what a user's own says is overruled by what the script says, and
    nothing of the job that the harness itself may run in is handed on."""
    stated = {name.replace("-", "_").upper() for name in re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE)}
    stated |= {"TIMELIMIT"} if "TIME" in stated else set()
    overruled = {f"SBATCH_{name}" for name in stated} | {"SBATCH_REQUEUE", "SBATCH_WAIT", "SBATCH_ARRAY_INX"}
    inside = "SLURM_JOB_ID" in env
    kept = {
        name: value for name, value in env.items()
        if name not in overruled and (not inside or not name.startswith("SLURM_") or name in INSIDE_KEPT)
    }  # fmt: skip
    return {**kept, **more}


def submit(script: Path, folder: Path, name: str, env: Mapping[str, str]) -> str:
    """The id of the job, which runs in ``folder``. Raises :class:`Refused`."""
    asked = ["sbatch", "--parsable", f"--chdir={folder}", f"--job-name={name}", str(script)]
    try:
        done = _run(asked, env)
    except BaseException as problem:
        # It may have been taken all the same.
        with suppress(NoAnswer):
            _run(["scancel", "--me", f"--name={name}"])
        if isinstance(problem, NoAnswer):
            raise Refused(str(problem)) from None
        raise
    job = done.stdout.strip().split(";")[0]
    if done.returncode or not job.isdigit():
        raise Refused(spoken(done.stderr or done.stdout))
    return job


def look(job: str) -> Seen:
    """What Slurm says of the job; :data:`VANISHED` where it says nothing. Raises :class:`NoAnswer`."""
    done = _run(["squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={FIELDS}"])
    if done.returncode == 0:
        return read_squeue(done.stdout, job) or _accounted(job)
    if "Invalid job id" in done.stderr:
        return _accounted(job)
    raise NoAnswer(spoken(done.stderr))


def _accounted(job: str) -> Seen:
    """What the accounts say of a job that the controller has forgotten, where there are any."""
    try:
        done = _run(["sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={job}",
                     "--format=State,NodeList,Reason"])  # fmt: skip
    except NoAnswer:
        return VANISHED
    return (read_sacct(done.stdout) if done.returncode == 0 else None) or VANISHED


def cancel(*names: str) -> None:
    """End jobs, or steps of them. Raises :class:`NoAnswer`."""
    _run(["scancel", *names])


def steps_named(job: str, name: str) -> list[str]:
    """The ids of the job's steps of this name that are under way. Raises :class:`NoAnswer`."""
    said = _run(["squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i|%j"]).stdout
    pairs = (line.strip().partition("|") for line in said.splitlines())
    return [step for step, _, named in pairs if named == name]


def troubled(hosts: Collection[str]) -> dict[str, str]:
    """What is wrong with nodes, by name; nothing of those that are well, or where Slurm does not answer."""
    try:
        done = _run(["sinfo", "--noheader", "--Node", f"--nodes={','.join(hosts)}", "--format=%N|%T|%E"])
    except NoAnswer:
        return {}
    return read_nodes(done.stdout)


@cache
def why_no_mpi(kind: str) -> str | None:
    """Why srun can't start MPI ranks this way here, or ``None``."""
    try:
        done = _run(["srun", "--mpi=list"])
    except NoAnswer as problem:
        return str(problem)
    known = re.findall(r"\b(pmi\w+)\b", done.stdout + done.stderr)
    return None if kind in known else f"srun --mpi=list knows no {kind}"


def spoken(text: str) -> str:
    """The words of one of Slurm's commands as one line, without its own name."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line) or "no word of why"


def _run(command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Raises :class:`NoAnswer`."""
    try:
        return subprocess.run(
            command, env=None if env is None else dict(env), capture_output=True, text=True, check=False,
            timeout=ANSWER_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]} gave no answer within {ANSWER_S:g} s") from None
    except OSError as problem:
        raise NoAnswer(f"{command[0]} can't be run ({problem.strerror})") from None


def source_path(env: Mapping[str, str], root: Path) -> str:
    """PYTHONPATH with this source tree in front (pure)."""
    return os.pathsep.join([str(root), *([env["PYTHONPATH"]] if env.get("PYTHONPATH") else [])])
