"""Horovod's own launcher, kept from weakening what it runs on.

    python -m bench.horovodrun ADDRESS 'ssh -F FILE' …

followed by horovodrun's own arguments. Horovod 0.28.1 fixes its ssh command to one that accepts any host key and adds
it to known_hosts, and serves its rendezvous on every interface: here ssh is the one that was named, and the rendezvous
is at ``ADDRESS`` only.
"""

from __future__ import annotations

import sys
from typing import Any


def main() -> None:
    address, ssh = sys.argv[1:3]
    del sys.argv[1:3]
    from horovod.runner import launch
    from horovod.runner.http import http_server
    from horovod.runner.util import remote

    class AtOneAddress(http_server.RendezvousHTTPServer):
        def __init__(self, place: tuple[str, int], *rest: Any) -> None:
            super().__init__((address, place[1]), *rest)

    http_server.RendezvousHTTPServer = AtOneAddress
    remote.SSH_COMMAND_PREFIX = ssh
    launch.run_commandline()


if __name__ == "__main__":
    main()
