"""mpirun"""

from __future__ import annotations

from collections.abc import Sequence

from bench.host.network import Interface


def mpirun_command(
    hosts: str,
    ranks: int,
    ssh: str,
    rank: Sequence[str],
    *,
    mpirun: str,
    interface: Interface,
    exported: Sequence[str],
    as_root: bool,
) -> tuple[str, ...]:
    """mpirun's argument list (pure), as Open MPI 5 has it. Ranks fill one host after the other and are not bound:
    without that, those of different hosts share a core where hosts are namespaces, and threads share one always."""
    root = ("--allow-run-as-root",) if as_root else ()
    interface_options = ("--mca", "btl_tcp_if_include", interface.name, "--prtemca", "prte_if_include", interface.name)
    export_options = tuple(word for name in exported for word in ("-x", name))
    return (
        mpirun,
        *root,
        "--prtemca",
        "plm_ssh_agent",
        ssh,
        *interface_options,
        "--host",
        hosts,
        "-np",
        str(ranks),
        "--map-by",
        "slot",
        "--bind-to",
        "none",
        *export_options,
        *rank,
    )
