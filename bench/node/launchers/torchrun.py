"""torchrun, whose store listens on one address: starts the ranks of one node.

    python -m bench.node.launchers.torchrun ADDRESS …

followed by torchrun's own arguments. torch 2.13 binds the store of its static rendezvous to all interfaces; this module
gives it a socket of its own before it calls torchrun.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from bench.core.case import Case
from bench.host.network import Interface, listen_at
from bench.node.launchers.base import WORKER_MODULE
from bench.node.rendezvous import Rendezvous


def main() -> None:
    address = sys.argv.pop(1)
    from torch.distributed import run
    from torch.distributed.elastic.rendezvous import static_tcp_rendezvous

    make_store = static_tcp_rendezvous.TCPStore

    def make_bound_store(host: str, port: int, world: int, is_master: bool, *arguments: Any, **options: Any) -> Any:
        if is_master:
            options["master_listen_fd"] = listen_at(address, port).detach()
        return make_store(host, port, world, is_master, *arguments, **options)

    static_tcp_rendezvous.TCPStore = make_bound_store
    run.main()


def torchrun_command(
    case: Case, rendezvous: Rendezvous, interface: Interface, arguments: Sequence[str]
) -> tuple[str, ...]:
    """torchrun's argument list for the ranks of this node (pure).

    Its static rendezvous exchanges JSON; the c10d rendezvous would unpickle whatever anyone writes into its store.

    Args:
        case: The case, for the number of ranks on a node.
        rendezvous: The number of this node, and the address of node 0.
        interface: The network interface of this node's agent.
        arguments: The arguments of the rank's command, :mod:`bench.rank.worker`.
    """
    return (
        sys.executable,
        "-m",
        "bench.node.launchers.torchrun",
        interface.address,
        "--nnodes",
        str(rendezvous.nodes),
        "--node-rank",
        str(rendezvous.node),
        "--nproc-per-node",
        str(case.ranks_on_a_node),
        "--rdzv-backend",
        "static",
        "--rdzv-conf",
        f"timeout={case.library_timeout_s}",
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


if __name__ == "__main__":
    main()
