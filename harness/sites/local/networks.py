"""Networks of namespaces on this machine: whether they can be made, and the harness's end of those that are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from bench.core.case import Case
from bench.core.records import Link
from bench.host.links import NODE_INTERFACE, hub_commands, ranks_per_namespace, shaping_commands
from bench.host.namespaces import NamespaceError, NetworkNamespaces, hold_network, measure_network_link
from harness.errors import NetworkError

ANSWER_TIMEOUT_S = 60.0
INSTALL_REMEDY = "install them: apt-get install iproute2"
ONE_NODE_REASON = "this machine is one node: --net joins nodes made of namespaces, or name another --site"


def unavailable_reason(case: Case) -> str | None:
    """Why the nodes of a case or their links can't be made here, with the remedy, or ``None``."""
    if case.net is None:
        return None if case.nodes == 1 else ONE_NODE_REASON
    return links_unavailable_reason()


@cache
def links_unavailable_reason() -> str | None:
    """Why this machine makes no such links at all, with the remedy, or ``None``."""
    if sys.platform != "linux":
        return "network namespaces are Linux's: leave --net out"
    if os.geteuid() != 0:
        return "network namespaces are root's to make: run as root, or leave --net out"
    missing = [tool for tool in ("ip", "tc", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"no {' and no '.join(missing)} on this machine; {INSTALL_REMEDY}"
    problem = _try_links()
    if problem:
        needs = "they take CAP_SYS_ADMIN and the kernel's veth, bridge and sch_tbf"
        return f"this system makes no shaped links ({problem}): {needs}; leave --net out"
    return None


def _try_links() -> str:
    """Make a hub and a shaped link in a namespace that is gone a moment later; what failed, or nothing."""
    veth = f"link add {NODE_INTERFACE} type veth peer name far"
    commands = [f"ip {line}" for line in (*hub_commands(()), veth)]
    commands += [f"tc {line}" for line in shaping_commands([NODE_INTERFACE], "1mbit")]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", " && ".join(commands)], capture_output=True, text=True, check=False
    )
    return " ".join(done.stderr.split()) or f"exit status {done.returncode}" if done.returncode else ""


class Network:
    """The network of one trial, held by a process of its own until :meth:`end`. Raises :class:`NetworkError`."""

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
        _end(self.process, self.pipe)


def measure_link(context: Any, net: str) -> Link:
    """What the links of such a network carry. Raises :class:`NetworkError`."""
    process, pipe = _start(context, measure_network_link, net)
    try:
        found: Link = _receive(pipe, net)
        return found
    finally:
        _end(process, pipe)


def _start(context: Any, target: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    parent_end, child_end = context.Pipe()
    process = context.Process(target=target, args=(child_end, *arguments), name=f"network-{target.__name__}")
    process.start()
    child_end.close()
    return process, parent_end


def _end(process: Any, pipe: Any) -> None:
    pipe.close()
    process.kill()
    process.join()
    process.close()


def _receive(pipe: Any, net: str) -> Any:
    try:
        found = (
            pipe.recv() if pipe.poll(ANSWER_TIMEOUT_S) else NamespaceError(f"no answer within {ANSWER_TIMEOUT_S:g} s")
        )
    except EOFError:
        found = NamespaceError("the process that makes them ended")
    if isinstance(found, NamespaceError):
        raise NetworkError(f"--net {net}: links can't be made: {found}; leave --net out")
    return found
