"""The batch script that Slurm is given for one trial, or for a round of them, and the knobs that shape it (pure)."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from bench.core.case import Case
from bench.node.launchers.base import AGENT, choose_launcher, worker_command
from bench.node.launchers.srun import SrunStep, mpi_interface_environment, srun_command
from bench.plugins.backend import Options
from harness.sites.base.contract import TrialRequest
from harness.sites.base.remote import MARGIN_S, node_command, rendezvous_port
from harness.sites.base.sbatch_options import SAFE_SBATCH_OPTIONS, check_sbatch_options

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]*$"
NAMES_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]*(,[A-Za-z0-9_][A-Za-z0-9_.@+-]*)*$"
SLURM_LAUNCHERS = (AGENT, "srun")
STARTUP_S = 60.0
"""What the nodes may take to start Python, before a trial's own time begins."""
EXIT_GRACE_S = 10
"""How long MPI ranks live on after the first has ended: the nodes see the first one first, and the rest end soon."""
BEGAN_FILE, ENDED_FILE, HOSTS_FILE = "began", "ended", "hosts.txt"
"""What the script leaves in a trial's folder."""
LOG_FILES = RANKS_LOG, NODES_LOG, SCRIPT_LOG = "ranks.log", "srun.log", "slurm.log"
"""What Slurm's programs said, there too: the step of the ranks, that of the nodes, the script's own."""


class SlurmOptions(Options):
    partition: str | None = Field(
        None, pattern=NAMES_PATTERN, description="where jobs go; several: whichever starts first"
    )
    account: str | None = Field(None, pattern=NAME_PATTERN, description="what they are billed to")
    qos: str | None = Field(None, pattern=NAME_PATTERN, description="their quality of service")
    constraint: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_.,&|*()\[\]+-]+$", description="features that the nodes must have"
    )
    gpus_per_node: str | None = Field(
        None,
        pattern=r"^([A-Za-z0-9_.-]+:)?[0-9]{1,3}$",
        description="4 or a100:4; by default as many as there are ranks on a node, where they compute on GPUs",
    )
    memory: str | None = Field(None, pattern=r"^[0-9]+[KMGT]?$", description="of each node; 0 is all of it")
    exclusive: bool = Field(False, description="share no node with other jobs")
    time_limit_min: int | None = Field(
        None, gt=0, description="of a job; by default what its trials may take, and a margin"
    )
    queue_timeout_s: float = Field(86400, gt=0, description="how long a job may wait in the queue")
    patience_s: float = Field(
        60, ge=0, description="how long a job may wait for what Slurm says will not come, such as a node that is down"
    )
    pack: bool = Field(False, description="one job for all trials of a round, one after the other: queue once")
    mpi: str = Field("pmix", pattern=r"^pmix(_v[0-9])?$", description="how srun starts MPI ranks: see srun --mpi=list")
    interface: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,15}$",
        description="the network interface to meet on; by default the one that leads to the first node",
    )
    python: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_./~+-]+$",
        description="Python on the nodes; by default this one, or the container's own",
    )
    container: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_/.][A-Za-z0-9_./:@#+-]*$", description="the image that ranks run in"
    )
    container_by: Literal["pyxis", "apptainer"] = Field(
        "pyxis", description="pyxis: srun --container-image; apptainer: apptainer exec"
    )
    extra: str = Field("", description="further options of sbatch, such as --reservation=night --nodelist=n[1-4]")

    @field_validator("extra")
    @classmethod
    def _only_safe_options(cls, text: str) -> str:
        return check_sbatch_options(text, SAFE_SBATCH_OPTIONS)

    @property
    def gpus(self) -> int | None:
        """Of each node; ``None`` where that is not said."""
        return int(self.gpus_per_node.rpartition(":")[2]) if self.gpus_per_node else None

    @property
    def rank_python(self) -> str:
        return self.python or ("python" if self.container else sys.executable)


MASTER_ADDR_LINE = (
    """export MASTER_ADDR=$(ip -o -4 address show dev {interface} | sed -n '1s|.* inet \\([^/]*\\)/.*|\\1|p')"""
)
"""The script runs on node 0: by its name the others may know it on another network than the one that was chosen."""


def batch_script(options: SlurmOptions, trials: Sequence[TrialRequest], output: str) -> str:
    """The script that runs the trials one after the other. It starts in the folder that holds theirs; ``output`` is
    where its own words go.

    It ends well whatever becomes of them: that is in their folders.
    """
    lines = [f"#SBATCH {line}" for line in sbatch_directives(options, [trial.case for trial in trials], output)]
    blocks = [block for trial in trials for block in ("", *_trial_lines(options, trial))]
    return "\n".join(["#!/bin/bash", *lines, *blocks, "", "exit 0", ""])


def sbatch_directives(options: SlurmOptions, cases: Sequence[Case], output: str) -> list[str]:
    """What is asked of sbatch: room for the largest of the cases, time for all of them."""
    seconds = sum(step_limit_s(case) for case in cases) + STARTUP_S
    asked = {
        "job-name": "scaling",
        "nodes": str(max(case.nodes for case in cases)),
        "ntasks-per-node": "1",
        "cpus-per-task": str(max(cores_per_node(case) for case in cases)),
        "gpus-per-node": gpus_per_node_for(options, cases),
        "mem": options.memory,
        "time": str(options.time_limit_min or math.ceil(seconds / 60)),
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "constraint": options.constraint,
        "output": output,
    }
    switches = ["--no-requeue"]
    switches += ["--exclusive"] if options.exclusive else []
    # A node that dies takes the trial with it, not those that come after.
    switches += ["--no-kill"] if len(cases) > 1 else []
    return [*(f"--{name}={value}" for name, value in asked.items() if value), *switches, *options.extra.split()]


def step_limit_s(case: Case) -> float:
    """How long a trial's step may take, in seconds: its own time, and what starting and last words take."""
    return STARTUP_S + case.timeout_s + MARGIN_S


def cores_per_node(case: Case) -> int:
    return case.ranks_on_a_node * case.threads


def gpus_per_node_for(options: SlurmOptions, cases: Sequence[Case]) -> str | None:
    most_ranks = max((case.ranks_on_a_node for case in cases if case.device == "cuda"), default=0)
    return options.gpus_per_node or (str(most_ranks) if most_ranks else None)


def _trial_lines(options: SlurmOptions, trial: TrialRequest) -> list[str]:
    """The lines of one trial, in a subshell that works in the trial's folder."""
    case, roles, folder = trial
    by_srun = choose_launcher(roles, SLURM_LAUNCHERS) == "srun"
    port = rendezvous_port(folder.name)
    setup = [
        f"cd {shlex.quote(folder.name)} || exit",
        f"scontrol show hostnames >{HOSTS_FILE}",
        f"export MASTER_PORT={port}",
        *_interface_lines(options.interface, by_srun=by_srun),
        f"touch {BEGAN_FILE}",
    ]
    steps = (_ranks_by_srun if by_srun else _ranks_by_agents)(options, case, folder.name)
    return ["(", *setup, *steps, f"touch {ENDED_FILE}", ")"]


def _interface_lines(interface: str | None, *, by_srun: bool) -> list[str]:
    """What keeps a trial to an interface. Agents set further variables for the ranks that they start."""
    if interface is None:
        return []
    variables = {"SCALING_INTERFACE": interface, **(mpi_interface_environment(interface) if by_srun else {})}
    lines = [f"export {name}={value}" for name, value in variables.items()]
    return [*lines, MASTER_ADDR_LINE.format(interface=interface)]


def _ranks_by_agents(options: SlurmOptions, case: Case, name: str) -> list[str]:
    srun = _srun(options, case, _agent_step(case, name), MARGIN_S)
    return [f"{srun} \\\n    {_agent_command(options, case)} >{NODES_LOG} 2>&1"]


def _ranks_by_srun(options: SlurmOptions, case: Case, name: str) -> list[str]:
    """The ranks are one step of srun and the agents, which watch them, another. When one of the steps ends, the other
    ends soon or is ended: agents would wait for ranks that never began, and have seen ranks that hang."""
    ranks = SrunStep(name, case.nodes, case.ranks_on_a_node, case.threads, mpi=options.mpi, output="rank-%t.log")
    worker = _in_container(options, case, worker_command(options.rank_python, "case.json", "."))
    agent = _agent_command(options, case, "--ranks", "elsewhere")
    return [
        f"{_srun(options, case, ranks, EXIT_GRACE_S)} \\\n    {worker} >{RANKS_LOG} 2>&1 &",
        "ranks=$!",
        f"{_srun(options, case, _agent_step(case, name), MARGIN_S)} \\\n    {agent} >{NODES_LOG} 2>&1 &",
        "nodes=$!",
        "wait -n $ranks $nodes",
        f"for step in $ranks $nodes; do timeout {EXIT_GRACE_S} tail --pid=$step -s 0.2 -f /dev/null; done",
        "kill $ranks $nodes 2>/dev/null",
        "wait",
    ]


def _agent_step(case: Case, name: str) -> SrunStep:
    """One agent a node. The name identifies the step, should it have to be cancelled alone."""
    return SrunStep(name, case.nodes, 1, cores_per_node(case))


def _agent_command(options: SlurmOptions, case: Case, *more: str) -> str:
    command = node_command("--case", "case.json", "--out", ".", *more, python=options.rank_python)
    return _in_container(options, case, command)


def _srun(options: SlurmOptions, case: Case, step: SrunStep, exit_grace_s: float) -> str:
    """The srun of one step as a shell command, with the container that pyxis starts the tasks in."""
    command = shlex.join(srun_command(step, time_limit_s=step_limit_s(case), exit_grace_s=exit_grace_s))
    if options.container and options.container_by == "pyxis":
        image = shlex.quote(f"--container-image={options.container}")
        return f'{command} {image} --container-mounts="$PWD:$PWD" --container-workdir="$PWD"'
    return command


def _in_container(options: SlurmOptions, case: Case, words: Sequence[str]) -> str:
    command = shlex.join(words)
    if options.container and options.container_by == "apptainer":
        gpus = " --nv" if case.device == "cuda" else ""
        return f'apptainer exec{gpus} --bind "$PWD" --pwd "$PWD" {shlex.quote(options.container)} {command}'
    return command
