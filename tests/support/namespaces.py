"""A cluster on one machine: each node with its own network, host name, hosts file and private folders.

    with cluster(["n1", "n2"], net="1gbit", private=("/run/munge",)) as nodes:
        nodes["n1"].run(["ping", "-c", "1", "n2"])

Nodes share the disk but for what is private, and the process table. Their links meet in a bridge in a namespace of its
own, as in :mod:`bench.host.links`; from outside no node is reached. When the context ends, or the process that made it
dies, everything in them is killed, daemons that nobody knows of included: they are found by the namespaces they are in.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.host.links import (
    NODE_INTERFACE,
    hub_commands,
    node_address,
    node_commands,
    parse_rate,
    port_names,
    shaping_commands,
)
from harness.sites.local.networks import links_unavailable_reason
from tests.support.paths import ROOT

KINDS = ("net", "uts", "mnt")
PATIENCE_S = 10.0
MOUNTED = Path(tempfile.gettempdir()) / "scaling-tests-mounts"
"""Held by every cluster that is up; in it, the folders that were made to mount on."""
Command = Sequence[str | Path]


def unavailable_reason() -> str | None:
    """Why no such cluster can be made here, with the remedy, or ``None``."""
    missing = None if shutil.which("nsenter") else "no nsenter on this machine; install it: apt-get install util-linux"
    return links_unavailable_reason() or missing


@dataclass(frozen=True)
class Node:
    """One node. ``keeper``: the process that holds its namespaces."""

    name: str
    address: str
    folder: Path
    keeper: int

    def start(
        self, command: Command, *, env: Mapping[str, str] | None = None, cwd: Path | None = None, **how: Any
    ) -> subprocess.Popen:
        """Start a process there; it is the command itself, so that signals reach it. ``env`` adds to this one's."""
        entered = [*_entering(self.keeper), "env", f"--chdir={cwd or Path.cwd()}", *map(str, command)]
        return subprocess.Popen(entered, env={**os.environ, **(env or {})}, text=True, **how)

    def run(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 60.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess:
        """Run it to its end; what it said comes back as text."""
        process = self.start(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        assert not check or process.returncode == 0, f"{self.name}: {command}: {out}{err}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def outside(self, private: str) -> Path:
        """Where a private path of this node is found from outside."""
        return self.folder / private.lstrip("/")

    def processes(self) -> set[int]:
        """Everything that runs there now."""
        return _inside(_namespaces_of(self.keeper)) - {self.keeper}

    def kill_all(self) -> None:
        """End everything that runs there at once, as a power cut would; the node itself stays."""
        _kill_inside(_namespaces_of(self.keeper), spared={self.keeper})


@contextmanager
def cluster(names: Sequence[str], net: str = "unshaped", private: Sequence[str] = ()) -> Iterator[dict[str, Node]]:
    """Nodes by name. ``net``: the rate of their links, as for ``--net``; ``private``: folders that each has for itself,
    empty at first."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="nodes-"))
        stack.callback(shutil.rmtree, folder)
        stack.enter_context(_mount_points(private))
        _write_hosts(folder / "hosts", names)
        hub = stack.enter_context(_keeper("hub", []))
        nodes = {}
        for number, name in enumerate(names):
            mounts = [(str(folder / "hosts"), "/etc/hosts")]
            for path in private:
                (folder / name / path.lstrip("/")).mkdir(parents=True)
                mounts.append((str(folder / name / path.lstrip("/")), path))
            keeper = stack.enter_context(_keeper(name, mounts))
            nodes[name] = Node(name, node_address(number), folder / name, keeper)
        stack.enter_context(_guarded([hub, *(node.keeper for node in nodes.values())]))
        _join(hub, [node.keeper for node in nodes.values()], parse_rate(net))
        yield nodes


@contextmanager
def _mount_points(paths: Sequence[str]) -> Iterator[None]:
    """Folders to mount on; those that weren't there go again with the last cluster that may use them: tests run side by
    side, and a folder that is removed takes along what is mounted on it elsewhere."""
    with MOUNTED.open("a+") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        for path in map(Path, paths):
            made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True, exist_ok=True)
            users.write("".join(f"{folder}\n" for folder in made))
            users.flush()
        try:
            yield
        finally:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                users.seek(0)
                for folder in dict.fromkeys(users.read().splitlines()):
                    with suppress(FileNotFoundError):
                        Path(folder).rmdir()
                users.truncate(0)


def _write_hosts(place: Path, names: Sequence[str]) -> None:
    lines = ["127.0.0.1 localhost", *(f"{node_address(number)} {name}" for number, name in enumerate(names))]
    place.write_text("\n".join(lines) + "\n")


@contextmanager
def _keeper(name: str, mounts: Sequence[tuple[str, str]]) -> Iterator[int]:
    """A process in namespaces of its own, for as long as the context, or the process that made it, lives."""
    setup = [f"echo {shlex.quote(name)} > /proc/sys/kernel/hostname", "ip link set lo up"]
    setup += [f"mount --bind {shlex.quote(source)} {shlex.quote(target)}" for source, target in mounts]
    process = subprocess.Popen(
        ["unshare", "--net", "--uts", "--mount", "sh", "-c", f"{' && '.join(setup)} && echo ready && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"node {name} can't be made"
            yield process.pid
        finally:
            process.kill()


def _join(hub: int, keepers: Sequence[int], net: str) -> None:
    _batch(hub, "ip", hub_commands([f"/proc/{keeper}/ns/net" for keeper in keepers]))
    _batch(hub, "tc", shaping_commands(port_names(len(keepers)), net))
    for number, keeper in enumerate(keepers):
        # Its loopback is up already: a second time does no harm.
        _batch(keeper, "ip", node_commands(number, net))
        _batch(keeper, "tc", shaping_commands([NODE_INTERFACE], net))


def _batch(keeper: int, tool: str, lines: Sequence[str]) -> None:
    subprocess.run([*_entering(keeper), tool, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def _entering(keeper: int) -> list[str]:
    # `ip netns exec` would hide the cgroups, and slurmd then dies.
    return ["nsenter", f"--target={keeper}", "--net", "--uts", "--mount", "--"]


def _namespaces_of(pid: int) -> set[str]:
    """``net:[4026532290]`` and so on; none of a process that has ended. Raises ``OSError``."""
    return {str(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in KINDS}


def _inside(namespaces: set[str]) -> set[int]:
    """The processes in any of the namespaces."""
    found = set()
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        # One that has just ended is in none.
        with suppress(OSError):
            if _namespaces_of(pid) & namespaces:
                found.add(pid)
    return found


def _kill_inside(namespaces: set[str], spared: Collection[int] = ()) -> set[int]:
    """Kill until nobody is left, or patience ends; returns who is left."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := _inside(namespaces).difference(spared)) and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return left


@contextmanager
def _guarded(keepers: Sequence[int]) -> Iterator[None]:
    """A process outside that ends all that is in the keepers' namespaces: at the end, or when this process dies."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.support.namespaces", *map(str, keepers)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert guard.stdout is not None
    assert guard.stdout.readline() == "ready\n"
    try:
        yield
    finally:
        left = guard.communicate()[0]
        assert guard.returncode == 0, f"still there in a node that is gone: {left}"


def _guard(keepers: Sequence[int]) -> int:
    # Held open until all is done: the kernel gives the number of a namespace that is gone to the next one.
    held = [os.open(f"/proc/{keeper}/ns/{kind}", os.O_RDONLY) for keeper in keepers for kind in KINDS]
    namespaces = set().union(*(_namespaces_of(keeper) for keeper in keepers))
    assert not namespaces & _namespaces_of(os.getpid()), "a node shares a namespace with this machine"
    print("ready", flush=True)
    sys.stdin.read()
    left = _kill_inside(namespaces)
    for pid in left:
        print(pid, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    for descriptor in held:
        os.close(descriptor)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(_guard([int(keeper) for keeper in sys.argv[1:]]))
