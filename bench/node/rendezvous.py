"""Which node is this, and where is node 0 met? One function a site that reads its variables, and nothing else.

Ranks fill the nodes one after the other: rank r is on node r ÷ (ranks a node).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

DEFAULT_PORT = 29500
MAX_NODES = 100_000
NODE_LIST_ENTRY = r"(?:[^,\[\]]|\[[^\[\]]+\])+"
"""One entry of a node list: a name with ranges in it."""


class RendezvousError(ValueError):
    """The environment does not say which node this is. The text says what is missing."""


class Rendezvous(NamedTuple):
    """A node's number, how many there are, and where node 0 is met."""

    node: int
    nodes: int
    rendezvous_host: str
    rendezvous_port: int


def expand_nodes(text: str) -> list[str]:
    """Slurm's node lists: ``n[1-3,08],gpu7`` → n1, n2, n3, n08, gpu7. Raises :class:`RendezvousError`."""
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
        if not low.isdigit() or not (high or low).isdigit() or int(high or low) - int(low) > MAX_NODES:
            raise RendezvousError(f"node list '{part}' can't be read")
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
"""By the variable that only this site sets; the first one that is set wins."""


def read_rendezvous(env: Mapping[str, str]) -> Rendezvous:
    """Read the place of this node from its environment. Raises :class:`RendezvousError`."""
    read = next((read for name, read in ENVIRONMENT_READERS.items() if name in env), None)
    if read is None:
        raise RendezvousError(f"none of {', '.join(ENVIRONMENT_READERS)} is set: which node is this?")
    try:
        node, nodes, host = read(env)
        port = int(env.get("MASTER_PORT", DEFAULT_PORT))
    except KeyError as problem:
        raise RendezvousError(f"{problem.args[0]} is not set") from None
    except (ValueError, TypeError) as problem:
        raise RendezvousError(str(problem)) from None
    if not 0 <= node < nodes:
        raise RendezvousError(f"node {node} of {nodes}")
    return Rendezvous(node, nodes, host, port)


INTERFACE_VARIABLE = "SCALING_INTERFACE"


RENDEZVOUS_WAIT_VARIABLE = "SCALING_AWAIT_S"
"""How long node 0 may not be known yet, where nodes are not there all at once."""
