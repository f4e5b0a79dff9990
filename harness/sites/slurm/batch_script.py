"""The batch script of one trial, or of the trials of a round (pure)."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from bench.core.case import Case
from bench.host.certificate import CERTIFICATE_FILE
from bench.node.launchers.base import AGENT, choose_launcher, worker_command
from bench.node.launchers.srun import SrunStep, mpi_environment, mpi_interface_environment, srun_command
from harness.sites.base.contract import TrialRequest
from harness.sites.base.remote import feed_arguments, needs_certificate, node_command, rendezvous_port
from harness.sites.slurm.fed_agents import AGENTS_STEP, LAST_LINES, feed_functions, feed_line
from harness.sites.slurm.options import SlurmOptions, SlurmTimeouts

SLURM_LAUNCHERS = (AGENT, "srun")
RANK_EXIT_GRACE_S = 10
"""How long the other MPI ranks may run on after the first has ended, so that the agents see which one was first."""
BEGAN_FILE, ENDED_FILE, HOSTS_FILE = "began", "ended", "hosts.txt"
"""Files that the script leaves in a trial's folder."""
ROUND_LOG = "slurm-%j.log"
"""Of the script of a job for several trials, in the sweep's folder; ``%j``: the number of the job."""
LOG_FILES = RANKS_LOG, NODES_LOG, SCRIPT_LOG = "ranks.log", "srun.log", "slurm.log"
"""Output of Slurm's programs in a trial's folder: of the ranks' step, of the agents' step, of the script."""

MASTER_ADDR_LINE = (
    """export MASTER_ADDR=$(ip -o -4 address show dev {interface} | sed -n '1s|.* inet \\([^/]*\\)/.*|\\1|p')"""
)
"""The script runs on node 0, whose host name may stand for its address on another network than the chosen one."""


def batch_script(
    options: SlurmOptions,
    trials: Sequence[TrialRequest],
    output: str,
    timeouts: SlurmTimeouts = SlurmTimeouts(),
    preload: Sequence[str] = (),
) -> str:
    """The script that runs the trials one after the other. Its exit status is 0 whatever becomes of them: the trials'
    folders tell.

    Where there are several, those whose ranks agents start have the agents in common
    (:mod:`harness.sites.slurm.fed_agents`).

    Args:
        options: Of the site.
        trials: Their folders are in the folder that the script starts in.
        output: The file for the script's own output, relative to that folder.
        timeouts: They limit how long each trial's steps may take.
        preload: The modules of backends that agents in common import once.
    """
    directives = sbatch_directives(options, [trial.case for trial in trials], output, timeouts)
    fed = [trial for trial in trials if len(trials) > 1 and not _is_by_srun(trial)]
    blocks = ["", *_agent_lines(options, fed, timeouts, preload)] if fed else []
    for trial in trials:
        one = [feed_line(trial, timeouts.step_limit_s(trial.case))] if trial in fed else None
        blocks += ["", *(one or _trial_lines(options, trial, timeouts))]
    blocks += ["", *LAST_LINES] if fed else []
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in directives), *blocks, "", "exit 0", ""])


def sbatch_directives(
    options: SlurmOptions, cases: Sequence[Case], output: str, timeouts: SlurmTimeouts = SlurmTimeouts()
) -> list[str]:
    """The options of sbatch: room for the largest of the cases, time for all of them."""
    seconds = sum(timeouts.step_limit_s(case) for case in cases) + timeouts.startup_s
    values = {
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
    # A node that fails ends its trial, not the trials after it.
    switches += ["--no-kill"] if len(cases) > 1 else []
    return [*(f"--{name}={value}" for name, value in values.items() if value), *switches, *options.extra.split()]


def cores_per_node(case: Case) -> int:
    return case.ranks_on_a_node * case.threads


def gpus_per_node_for(options: SlurmOptions, cases: Sequence[Case]) -> str | None:
    most = max((case.gpus_on_a_node for case in cases), default=0)
    return options.gpus_per_node or (str(most) if most else None)


def _is_by_srun(trial: TrialRequest) -> bool:
    return choose_launcher(trial.roles, SLURM_LAUNCHERS) == "srun"


def _agent_lines(
    options: SlurmOptions, fed: Sequence[TrialRequest], timeouts: SlurmTimeouts, preload: Sequence[str]
) -> list[str]:
    """What prepares the agents that run these trials one after another, with room for the largest."""
    cases = [trial.case for trial in fed]
    widest = max(cases, key=cores_per_node)
    most = max(case.nodes for case in cases)
    step = SrunStep(AGENTS_STEP, most, 1, cores_per_node(widest))
    limit_s = sum(timeouts.step_limit_s(case) for case in cases)
    srun = _srun(options, step, limit_s, timeouts.report_s)
    srun = srun.replace(f"--nodes={most} --ntasks={most} ", '--nodes="$room" --ntasks="$room" ')
    modules = preload if any(case.program is None for case in cases) else None
    command = node_command(*feed_arguments(modules), python=options.rank_python)
    on_gpus = next((case for case in cases if case.device == "cuda"), widest)
    files = {"began_file": BEGAN_FILE, "ended_file": ENDED_FILE, "hosts_file": HOSTS_FILE, "log_file": NODES_LOG}
    functions = feed_functions(f"{srun} \\\n        {_in_container(options, on_gpus, command)}", most, files)
    return [*_interface_lines(options.interface, by_srun=False), *functions]


def _trial_lines(options: SlurmOptions, trial: TrialRequest, timeouts: SlurmTimeouts) -> list[str]:
    """The lines of one trial, in a subshell that works in the trial's folder."""
    case, roles, folder = trial
    by_srun = _is_by_srun(trial)
    port = rendezvous_port(folder.name)
    setup = [
        f"cd {shlex.quote(folder.name)} || exit",
        f"scontrol show hostnames >{HOSTS_FILE}",
        f"export MASTER_PORT={port}",
        # What the user has exported stays.
        *(f'export {name}="${{{name}-{value}}}"' for name, value in mpi_environment(case.nodes).items() if by_srun),
        *_interface_lines(options.interface, by_srun=by_srun),
        f"touch {BEGAN_FILE}",
    ]
    steps = (_ranks_by_srun if by_srun else _ranks_by_agents)(options, trial, timeouts)
    certified = [f"rm -f {CERTIFICATE_FILE}"] if needs_certificate(case, roles) else []
    return ["(", *setup, *steps, *certified, f"touch {ENDED_FILE}", ")"]


def _interface_lines(interface: str | None, *, by_srun: bool) -> list[str]:
    """What keeps a trial to an interface. Agents set further variables for the ranks that they start."""
    if interface is None:
        return []
    variables = {"SCALING_INTERFACE": interface, **(mpi_interface_environment(interface) if by_srun else {})}
    lines = [f"export {name}={value}" for name, value in variables.items()]
    return [*lines, MASTER_ADDR_LINE.format(interface=interface)]


def _ranks_by_agents(options: SlurmOptions, trial: TrialRequest, timeouts: SlurmTimeouts) -> list[str]:
    case = trial.case
    srun = _srun(options, _agent_step(case, trial.folder.name), timeouts.step_limit_s(case), timeouts.report_s)
    certificate = ("--certificate", CERTIFICATE_FILE) if needs_certificate(case, trial.roles) else ()
    return [f"{srun} \\\n    {_agent_command(options, case, *certificate)} >>{NODES_LOG} 2>&1"]


def _ranks_by_srun(options: SlurmOptions, trial: TrialRequest, timeouts: SlurmTimeouts) -> list[str]:
    """The ranks are one step of srun and the agents, which watch them, another. When one of the steps ends, the other
    ends soon or is ended: agents would wait for ranks that never began, and have seen ranks that hang."""
    case, name = trial.case, trial.folder.name
    ranks = SrunStep(name, case.nodes, case.ranks_on_a_node, case.threads, mpi=options.mpi, output="rank-%t.log")
    worker = _in_container(options, case, worker_command(options.rank_python, "case.json", "."))
    agent = _agent_command(options, case, "--ranks", "elsewhere")
    limit_s = timeouts.step_limit_s(case)
    return [
        f"{_srun(options, ranks, limit_s, RANK_EXIT_GRACE_S)} \\\n    {worker} >>{RANKS_LOG} 2>&1 &",
        "ranks=$!",
        f"{_srun(options, _agent_step(case, name), limit_s, timeouts.report_s)} \\\n    {agent} >>{NODES_LOG} 2>&1 &",
        "nodes=$!",
        "wait -n $ranks $nodes",
        f"for step in $ranks $nodes; do timeout {RANK_EXIT_GRACE_S} tail --pid=$step -s 0.2 -f /dev/null; done",
        "kill $ranks $nodes 2>/dev/null",
        "wait",
    ]


def _agent_step(case: Case, name: str) -> SrunStep:
    """One agent a node. The name identifies the step, should it have to be cancelled alone."""
    return SrunStep(name, case.nodes, 1, cores_per_node(case))


def _agent_command(options: SlurmOptions, case: Case, *more: str) -> str:
    command = node_command("--case", "case.json", "--out", ".", *more, python=options.rank_python)
    return _in_container(options, case, command)


def _srun(options: SlurmOptions, step: SrunStep, limit_s: float, exit_grace_s: float) -> str:
    """The srun of one step as a shell command, with the container that pyxis starts the tasks in."""
    command = shlex.join(srun_command(step, time_limit_s=limit_s, exit_grace_s=exit_grace_s))
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
