"""Horovod's own launcher, kept from weakening what it runs on.

    python -m bench.node.launchers.horovodrun ADDRESS 'ssh -F FILE' …

followed by horovodrun's own arguments. Horovod 0.28.1 fixes its ssh command to one that accepts any host key and adds
it to known_hosts, and serves its rendezvous on every interface: here ssh is the one that was named, and the rendezvous
is at ``ADDRESS`` only.
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


if __name__ == "__main__":
    main()


def horovodrun_command(
    hosts: str, ranks: int, ssh: str, rank: Sequence[str], *, python: str, interface: Interface
) -> tuple[str, ...]:
    """horovodrun's argument list (pure). An interface that is named spares its search, which exchanges pickles."""
    return (
        python,
        "-m",
        "bench.node.launchers.horovodrun",
        interface.address,
        ssh,
        "--gloo",
        "--disable-cache",
        "--network-interfaces",
        interface.name,
        "-H",
        hosts,
        "-np",
        str(ranks),
        *rank,
    )
