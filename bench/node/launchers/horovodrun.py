"""horovodrun, with a given ssh command and a rendezvous on one address.

    python -m bench.node.launchers.horovodrun ADDRESS 'ssh -F FILE' …

followed by horovodrun's own arguments. Horovod 0.28.1 always uses an ssh command that accepts any host key and adds it
to known_hosts, and serves its rendezvous on all interfaces; this module replaces both before it calls horovodrun.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.host.network import Interface


def main() -> None:
    address, ssh = sys.argv[1:3]
    del sys.argv[1:3]
    from horovod.runner import launch
    from horovod.runner.http import http_server
    from horovod.runner.util import remote

    find_port = http_server.find_port
    http_server.find_port = lambda serve: find_port(lambda wildcard: serve((address, wildcard[1])))
    remote.SSH_COMMAND_PREFIX = ssh
    launch.run_commandline()


def horovodrun_command(
    hosts: str,
    ranks: int,
    ssh: str,
    rank_command: Sequence[str],
    *,
    python: str,
    interface: Interface,
    start_timeout_s: int,
) -> tuple[str, ...]:
    """horovodrun's argument list (pure).

    Args:
        hosts: ``name:ranks`` of each host, separated by commas.
        ranks: The number of ranks, over all hosts.
        ssh: The ssh command, with its options.
        rank_command: The command of one rank.
        python: The interpreter of horovodrun.
        interface: The network interface of rendezvous and ranks. Where it is not given, horovodrun searches for one,
            and exchanges pickles for that.
        start_timeout_s: How long the hosts may take to answer, in seconds: by itself horovodrun gives up after 30 s.
    """
    return (
        python,
        "-m",
        "bench.node.launchers.horovodrun",
        interface.address,
        ssh,
        "--gloo",
        "--disable-cache",
        "--start-timeout",
        str(start_timeout_s),
        "--network-interfaces",
        interface.name,
        "-H",
        hosts,
        "-np",
        str(ranks),
        *rank_command,
    )


if __name__ == "__main__":
    main()
