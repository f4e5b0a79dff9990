"""torchrun: starts the ranks of one node."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.core.case import Case
from bench.host.network import Interface
from bench.node.launchers.base import WORKER_MODULE
from bench.node.rendezvous import Rendezvous


def torchrun_command(
    case: Case, rendezvous: Rendezvous, interface: Interface, arguments: Sequence[str]
) -> tuple[str, ...]:
    """torchrun's argument list for the ranks of this node (pure).

    Its static rendezvous exchanges JSON; the c10d rendezvous would unpickle whatever anyone writes into its store.
    torch binds the store to all interfaces in both cases.

    Args:
        case: The case, for the number of ranks on a node.
        rendezvous: The number of this node, and the address of node 0.
        interface: The network interface of this node's agent.
        arguments: The arguments of the rank's command, :mod:`bench.rank.worker`.
    """
    return (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes",
        str(rendezvous.nodes),
        "--node-rank",
        str(rendezvous.node),
        "--nproc-per-node",
        str(case.ranks_on_a_node),
        "--rdzv-backend",
        "static",
        "--master-addr",
        rendezvous.rendezvous_host,
        "--master-port",
        str(rendezvous.rendezvous_port),
        "--local-addr",
        interface.address,
        "-m",
        WORKER_MODULE,
        *arguments,
    )
