"""mpirun (Open MPI 5): starts MPI ranks on this machine, or on hosts that it reaches by ssh."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import NamedTuple

from bench.host.network import Interface
from bench.host.variables import BTL_VARIABLE, NO_TCP

# Open MPI 5 names the rank that it lost in one of these ways.
SIGNAL_PATTERN = re.compile(r"process rank (\d+)\b.*?exited on\s+signal (\d+)", re.DOTALL)
IMPROPER_PATTERN = re.compile(r"due to process rank (\d+) with PID \d+ on node \S+\s+exiting\s+improperly")
"""A rank that exits with status 0 in the middle; Open MPI names other statuses."""
STATUS_PATTERN = re.compile(r"Process name: \[[^\]]*,(\d+)\]\s+Exit code:\s+(\d+)")
ONE_HOST = ("--mca", "btl", NO_TCP)
"""Ranks of one host exchange data through its memory. Without this they would listen on every interface while they
start: Open MPI's interface parameters choose whom a rank connects to, and not where it listens."""


class MpiHosts(NamedTuple):
    """The hosts of an mpirun, and how it reaches them."""

    slots: str
    """``name:ranks`` of each host, separated by commas, as ``--host`` takes it."""
    ssh: str
    """The ssh command, with its options."""
    interface: Interface
    """The network interface over which mpirun's daemons and the ranks communicate."""
    exported: Sequence[str]
    """Names of environment variables that the ranks inherit."""


def mpirun_command(
    ranks: int,
    rank_command: Sequence[str],
    *,
    mpirun: str = "mpirun",
    hosts: MpiHosts | None = None,
    as_root: bool,
    env: Container[str] = (),
) -> tuple[str, ...]:
    """mpirun's argument list (pure).

    Ranks are not bound to cores: the threads of a rank would share one core, as would ranks of different hosts that are
    network namespaces of one machine.

    Args:
        ranks: The number of ranks, over all hosts.
        rank_command: The command of one rank.
        mpirun: The executable.
        hosts: Where the ranks run: they fill one host after the other. ``None``: all of them on this machine, also when
            it has fewer cores.
        as_root: Whether mpirun will run as root, which it refuses by default.
        env: The names of its environment variables: a transport that the user chose there stays.
    """
    one_host = () if BTL_VARIABLE in env else ONE_HOST
    placement: tuple[str, ...] = ("--oversubscribe", *one_host)
    if hosts is not None:
        interface = hosts.interface.name
        several = "," in hosts.slots
        placement = (
            *("--prtemca", "plm_ssh_agent", hosts.ssh),
            *(("--mca", "btl_tcp_if_include", interface) if several else one_host),
            *("--prtemca", "prte_if_include", interface),
            *("--host", hosts.slots, "--map-by", "slot"),
            *(word for name in hosts.exported for word in ("-x", name)),
        )
    root = ("--allow-run-as-root",) if as_root else ()
    return (mpirun, *root, *placement, "--bind-to", "none", "-np", str(ranks), *rank_command)


def lost_rank(lines: Sequence[str]) -> tuple[int, int] | None:
    """The rank that mpirun reports as lost, and its status (below 0 for a signal), from mpirun's output (pure)."""
    text = "\n".join(lines)
    if signalled := SIGNAL_PATTERN.search(text):
        return int(signalled[1]), -int(signalled[2])
    if ended := STATUS_PATTERN.search(text):
        return int(ended[1]), int(ended[2])
    if left := IMPROPER_PATTERN.search(text):
        return int(left[1]), 0
    return None
