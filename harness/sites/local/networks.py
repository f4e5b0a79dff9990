"""Networks of namespaces on this machine: whether they can be created, and the processes that hold them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from bench.core.case import Case
from bench.core.records import Link
from bench.host.commands import CommandTimeout, run_command
from bench.host.links import NODE_INTERFACE, hub_commands, ranks_per_namespace, shaping_commands
from bench.host.namespaces import NamespaceError, NetworkNamespaces, hold_network, measure_network_link
from bench.node.forked import StartError, join_within_limit, start_within_limit
from harness.errors import NetworkError

ANSWER_TIMEOUT_S = 60.0
INSTALL_REMEDY = "install them: apt-get install iproute2"
ONE_NODE_REASON = "this machine is one node: --net joins nodes made of namespaces, or name another --site"


def unavailable_reason(case: Case) -> str | None:
    """Why the nodes of a case, or the links between them, can't be created here, with the remedy, or ``None``."""
    if case.net is None:
        return None if case.nodes == 1 else ONE_NODE_REASON
    return links_unavailable_reason()


@cache
def links_unavailable_reason() -> str | None:
    """Why no links can be created on this machine, with the remedy, or ``None``. Tries it once."""
    if sys.platform != "linux":
        return "network namespaces need Linux: leave --net out"
    if os.geteuid() != 0:
        return "network namespaces need root: run as root, or leave --net out"
    missing = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)} on this machine; {INSTALL_REMEDY}"
    problem = _try_links()
    if problem:
        needs = "they need CAP_SYS_ADMIN and the kernel's veth, bridge and sch_tbf"
        return f"shaped links can't be created on this system ({problem}): {needs}; leave --net out"
    return None


def _try_links() -> str:
    """Create a hub and a shaped link in a temporary namespace; returns the error message, or nothing."""
    veth = f"link add {NODE_INTERFACE} type veth peer name far"
    commands = [f"ip {line}" for line in (*hub_commands(()), veth)]
    commands += [f"tc {line}" for line in shaping_commands([NODE_INTERFACE], "1mbit")]
    try:
        done = run_command(["unshare", "--net", "sh", "-c", " && ".join(commands)], ANSWER_TIMEOUT_S)
    except CommandTimeout as problem:
        return str(problem)
    return " ".join(done.stderr.split()) or f"exit status {done.returncode}" if done.returncode else ""


class Network:
    """The network of one trial, which a process of its own holds until :meth:`end`.

    Args:
        context: The forkserver that the process is started from.
        case: The case, whose ``net`` is not ``None``.

    Raises:
        NetworkError: If the network can't be created.
    """

    def __init__(self, context: Any, case: Case) -> None:
        assert case.net is not None
        nodes = case.ranks // ranks_per_namespace(case)
        self.process, self.pipe = _start(context, hold_network, case.net, nodes)
        try:
            self.namespaces: NetworkNamespaces = _receive(self.pipe, case.net)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End the process; the kernel removes the network with its last process."""
        _end(self.process, self.pipe)


def measure_link(context: Any, net: str) -> Link:
    """Measure what the links of a network carry.

    Args:
        context: The forkserver that the process is started from.
        net: The rate of the links.

    Raises:
        NetworkError: If the network can't be created.
    """
    process, pipe = _start(context, measure_network_link, net)
    try:
        link: Link = _receive(pipe, net)
        return link
    finally:
        _end(process, pipe)


def _start(context: Any, target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    parent_end, child_end = context.Pipe()
    process = context.Process(target=target, args=(child_end, *arguments), name=f"network-{target.__name__}")
    try:
        start_within_limit(process)
    except StartError as problem:
        raise NetworkError(f"links can't be created: {problem}") from None
    child_end.close()
    return process, parent_end


def _end(process: Any, pipe: Any) -> None:
    pipe.close()
    process.kill()
    join_within_limit([process])
    process.close()


def _receive(pipe: Any, net: str) -> Any:
    try:
        answer = (
            pipe.recv() if pipe.poll(ANSWER_TIMEOUT_S) else NamespaceError(f"no answer within {ANSWER_TIMEOUT_S:g} s")
        )
    except EOFError:
        answer = NamespaceError("the process that creates them ended")
    if isinstance(answer, NamespaceError):
        raise NetworkError(f"--net {net}: links can't be created: {answer}; leave --net out")
    return answer
