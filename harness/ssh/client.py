"""What ssh is told: one configuration for every connection of a trial, and command lines for the far side (pure).

The configuration comes before the user's own and ssh keeps what it reads first, so that jump hosts and keys of
``~/.ssh/config`` still hold and no line of it makes the check of host keys any weaker.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from harness.ssh.hosts_file import Host

CONNECT_S = 10
# A host that has lost its power or its network is noticed this many times later.
ALIVE_S = 5
ALIVE_TIMES = 3
FAILED = 255
"""The status that is ssh's own."""


class Access(NamedTuple):
    """How all hosts are reached where they don't say otherwise. ``None``: as ssh does by itself."""

    user: str | None = None
    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    host_key_checking: Literal["strict", "accept-new"] = "strict"


def config(hosts: Sequence[Host], access: Access) -> str:
    """The text for ``ssh -F``."""
    lines = [line for host in hosts for line in _own_lines(host, access)]
    lines += [f"Host {' '.join(_names(hosts))}", *(f"    {line}" for line in _common_lines(access))]
    return "\n".join([*lines, "Match all", "    Include ~/.ssh/config", "    Include /etc/ssh/ssh_config", ""])


def _own_lines(host: Host, access: Access) -> list[str]:
    user, port = host.user or access.user, host.port or access.port
    said = {"HostName": host.address, "User": user, "Port": port}
    lines = [f"    {name} {value}" for name, value in said.items() if value is not None]
    return [f"Host {' '.join(_names([host]))}", *lines] if lines else []


def _names(hosts: Sequence[Host]) -> list[str]:
    """mpirun and horovodrun name a host by its address."""
    return list(dict.fromkeys(name for host in hosts for name in (host.name, host.met_at)))


def _common_lines(access: Access) -> list[str]:
    lines = [
        "BatchMode yes",
        f"StrictHostKeyChecking {'yes' if access.host_key_checking == 'strict' else 'accept-new'}",
        f"ConnectTimeout {CONNECT_S}",
        f"ServerAliveInterval {ALIVE_S}",
        f"ServerAliveCountMax {ALIVE_TIMES}",
        # A connection of its own each: one that is shared would outlive the trial.
        "ControlMaster no",
        "ControlPath none",
        "RequestTTY no",
        "RemoteCommand none",
        "ForwardAgent no",
        "ForwardX11 no",
        "LogLevel INFO",
    ]
    if access.known_hosts is not None:
        lines.append(f"UserKnownHostsFile {_quoted(access.known_hosts)}")
    if access.identity is not None:
        lines += [f"IdentityFile {_quoted(access.identity)}", "IdentitiesOnly yes"]
    return lines


def _quoted(path: str) -> str:
    """ssh replaces what begins with a per cent sign."""
    return '"' + path.replace("%", "%%") + '"'


def command(config_file: str, host: Host, remote: str) -> list[str]:
    """ssh's argument list. The far shell reads ``remote``."""
    return ["ssh", "-F", config_file, host.name, remote]


def remote_line(folder: str | None, env: Mapping[str, str], arguments: Sequence[str]) -> str:
    """A line for any login shell: it becomes the command, in the folder and with the variables."""
    found = {**({"PYTHONPATH": folder} if folder else {}), **env}
    named = [f"{name}={value}" for name, value in found.items()]
    there = f"cd {shlex.quote(folder)} && " if folder else ""
    return there + "exec " + shlex.join(["env", *named, *arguments] if named else arguments)


TELLING = (
    "ssh:",
    "Connection",
    "connection",
    "Permission denied",
    "Timeout",
    "timed out",
    "Broken pipe",
    "kex_exchange",
)
"""What marks ssh's own words among those of a login."""


def why_it_failed(said: Sequence[str], host: Host, access: Access) -> str:
    """ssh's own line about a connection that was refused or lost, with the remedy where there is one."""
    lines = [line.strip() for line in said if line.strip()]
    if any("Host key verification failed" in line for line in lines):
        return _about_keys(lines, host, access)
    telling = [line for line in lines if any(mark in line for mark in TELLING)]
    found = (telling or lines or ["ssh ended without a word"])[-1]
    if "Permission denied" in found:
        return f"{found.rstrip('.')}; name a key that it takes: --set hosts.identity=FILE"
    return found


def _about_keys(lines: Sequence[str], host: Host, access: Access) -> str:
    if any("IDENTIFICATION HAS CHANGED" in line for line in lines):
        return ("its host key is not the one in known_hosts: somebody else may be answering; if it was reinstalled, "
                f"`ssh-keygen -R {host.met_at}` and add the new key")  # fmt: skip
    port = host.port or access.port
    scan = f"ssh-keyscan {f'-p {port} ' if port else ''}{host.met_at}"
    known = access.known_hosts or "~/.ssh/known_hosts"
    known = "~/" + shlex.quote(known[2:]) if known.startswith("~/") else shlex.quote(known)
    return (f"its host key is not known here: `{scan} >> {known}` adds it (compare the fingerprint on the host first), "
            "or --set hosts.host_key_checking=accept-new")  # fmt: skip
