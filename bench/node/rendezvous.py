"""Which node this is, and where node 0 listens: one function for each site reads the site's environment variables.

Ranks fill the nodes in order: rank r is on node r ÷ (ranks per node).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

INTERFACE_VARIABLE = "SCALING_INTERFACE"
"""The variable that names the network interface of this node."""
RENDEZVOUS_WAIT_VARIABLE = "SCALING_AWAIT_S"
"""The variable that says for how many seconds the name of node 0 may be unknown, where nodes start one by one."""
DEFAULT_PORT = 29500
MAX_NODES = 100_000
NODE_LIST_ENTRY = r"(?:[^,\[\]]|\[[^\[\]]+\])+"
"""One entry of a Slurm node list: a name that may contain ranges."""


class RendezvousError(ValueError):
    """The environment does not say which node this is, or its ranks can't be started. The text says what is missing."""


class Rendezvous(NamedTuple):
    """The number of a node, the number of nodes, and the address at which rank 0 listens."""

    node: int
    nodes: int
    rendezvous_host: str
    rendezvous_port: int


def expand_nodes(text: str) -> list[str]:
    """The names in a Slurm node list: ``n[1-3,08],gpu7`` → n1, n2, n3, n08, gpu7.

    Raises:
        RendezvousError: If the text is no node list.
    """
    if not re.fullmatch(f"{NODE_LIST_ENTRY}(?:,{NODE_LIST_ENTRY})*", text):
        raise RendezvousError(f"node list '{text}' can't be read")
    return [name for part in re.findall(NODE_LIST_ENTRY, text) for name in _expand_ranges(part)]


def _expand_ranges(part: str) -> list[str]:
    before, bracket, rest = part.partition("[")
    if not bracket:
        return [part]
    inside, _, after = rest.partition("]")
    names = []
    for number_range in inside.split(","):
        low, _, high = number_range.partition("-")
        if not low.isdigit() or not (high or low).isdigit():
            raise RendezvousError(f"node list '{part}' can't be read")
        if int(high or low) - int(low) > MAX_NODES:
            raise RendezvousError(f"node list '{part}' has more than {MAX_NODES} nodes")
        names += [f"{number:0{len(low)}d}" for number in range(int(low), int(high or low) + 1)]
    tails = _expand_ranges(after) if after else [""]
    return [before + name + tail for name in names for tail in tails]


def _from_harness(env: Mapping[str, str]) -> tuple[int, int, str]:
    return int(env["SCALING_NODE"]), int(env["SCALING_NODES"]), env["MASTER_ADDR"]


def _from_slurm(env: Mapping[str, str]) -> tuple[int, int, str]:
    node_list = env.get("SLURM_STEP_NODELIST") or env["SLURM_JOB_NODELIST"]
    nodes = env.get("SLURM_STEP_NUM_NODES") or env["SLURM_NNODES"]
    return int(env["SLURM_NODEID"]), int(nodes), env.get("MASTER_ADDR") or expand_nodes(node_list)[0]


def _from_kubernetes(env: Mapping[str, str]) -> tuple[int, int, str]:
    return int(env["JOB_COMPLETION_INDEX"]), int(env["SCALING_NODES"]), env["MASTER_ADDR"]


def _from_sagemaker(env: Mapping[str, str]) -> tuple[int, int, str]:
    hosts = sorted(json.loads(env["SM_HOSTS"]), key=_natural_order)
    return hosts.index(env["SM_CURRENT_HOST"]), len(hosts), env.get("MASTER_ADDR") or hosts[0]


def _natural_order(name: str) -> tuple[str, int]:
    """``algo-2`` before ``algo-10``."""
    stem, number = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]  # it matches any name
    return stem, int(number or 0)


ENVIRONMENT_READERS: Mapping[str, Callable[[Mapping[str, str]], tuple[int, int, str]]] = {
    "SCALING_NODE": _from_harness,
    "SLURM_NODEID": _from_slurm,
    "JOB_COMPLETION_INDEX": _from_kubernetes,
    "SM_CURRENT_HOST": _from_sagemaker,
}
"""By the variable that only one kind of site sets; the first one that is set wins."""


def read_rendezvous(env: Mapping[str, str]) -> Rendezvous:
    """Read from the environment which node this is.

    Raises:
        RendezvousError: If a variable is missing or can't be read.
    """
    variable = next((name for name in ENVIRONMENT_READERS if name in env), None)
    if variable is None:
        raise RendezvousError(f"can't determine which node this is: none of {', '.join(ENVIRONMENT_READERS)} is set")
    try:
        node, nodes, host = ENVIRONMENT_READERS[variable](env)
        port = int(env.get("MASTER_PORT", DEFAULT_PORT))
    except RendezvousError:
        raise
    except KeyError as problem:
        raise RendezvousError(f"{problem.args[0]} is not set") from None
    except (ValueError, TypeError) as problem:
        raise RendezvousError(f"the variables beside {variable}={env[variable]} can't be read: {problem}") from None
    if not 0 <= node < nodes:
        raise RendezvousError(f"node {node} of {nodes}: nodes are numbered from 0 to {nodes - 1}")
    return Rendezvous(node, nodes, host, port)
