"""What ssh is told: one configuration for every connection of a trial, and command lines for the far side (pure).

The configuration comes before the user's own and ssh keeps what it reads first, so that jump hosts and keys of
``~/.ssh/config`` still hold and no line of it makes the check of host keys any weaker.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from harness.sites.hosts.hosts_file import Host

CONNECT_TIMEOUT_S = 10
# A host that has lost its power or its network is noticed this many times later.
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
SSH_FAILED = 255
"""The status that is ssh's own."""


class SshAccess(NamedTuple):
    """How all hosts are reached where they don't say otherwise. ``None``: as ssh does by itself."""

    user: str | None = None
    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    host_key_checking: Literal["strict", "accept-new"] = "strict"


def ssh_config(hosts: Sequence[Host], access: SshAccess) -> str:
    """The text for ``ssh -F``."""
    lines = [line for host in hosts for line in _host_lines(host, access)]
    lines += [f"Host {' '.join(_host_names(hosts))}", *(f"    {line}" for line in _shared_lines(access))]
    return "\n".join([*lines, "Match all", "    Include ~/.ssh/config", "    Include /etc/ssh/ssh_config", ""])


def _host_lines(host: Host, access: SshAccess) -> list[str]:
    user, port = host.user or access.user, host.port or access.port
    said = {"HostName": host.address, "User": user, "Port": port}
    lines = [f"    {name} {value}" for name, value in said.items() if value is not None]
    return [f"Host {' '.join(_host_names([host]))}", *lines] if lines else []


def _host_names(hosts: Sequence[Host]) -> list[str]:
    """mpirun and horovodrun name a host by its address."""
    return list(dict.fromkeys(name for host in hosts for name in (host.name, host.connect_address)))


def _shared_lines(access: SshAccess) -> list[str]:
    lines = [
        "BatchMode yes",
        f"StrictHostKeyChecking {'yes' if access.host_key_checking == 'strict' else 'accept-new'}",
        f"ConnectTimeout {CONNECT_TIMEOUT_S}",
        f"ServerAliveInterval {KEEPALIVE_INTERVAL_S}",
        f"ServerAliveCountMax {KEEPALIVE_COUNT}",
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


def ssh_command(config_file: str, host: Host, remote: str) -> list[str]:
    """ssh's argument list. The far shell reads ``remote``."""
    return ["ssh", "-F", config_file, host.name, remote]


def remote_command(folder: str | None, env: Mapping[str, str], arguments: Sequence[str]) -> str:
    """A line for any login shell: it becomes the command, in the folder and with the variables."""
    found = {**({"PYTHONPATH": folder} if folder else {}), **env}
    named = [f"{name}={value}" for name, value in found.items()]
    change_folder = f"cd {shlex.quote(folder)} && " if folder else ""
    return change_folder + "exec " + shlex.join(["env", *named, *arguments] if named else arguments)


SSH_MESSAGE_MARKS = (
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


def connection_failure(said: Sequence[str], host: Host, access: SshAccess) -> str:
    """ssh's own line about a connection that was refused or lost, with the remedy where there is one."""
    lines = [line.strip() for line in said if line.strip()]
    if any("Host key verification failed" in line for line in lines):
        return _host_key_failure(lines, host, access)
    ssh_messages = [line for line in lines if any(mark in line for mark in SSH_MESSAGE_MARKS)]
    found = (ssh_messages or lines or ["ssh ended without a word"])[-1]
    if "Permission denied" in found:
        return f"{found.rstrip('.')}; name a key that it takes: --set hosts.identity=FILE"
    return found


def _host_key_failure(lines: Sequence[str], host: Host, access: SshAccess) -> str:
    if any("IDENTIFICATION HAS CHANGED" in line for line in lines):
        return (
            "its host key is not the one in known_hosts: somebody else may be answering; if it was reinstalled, "
            f"`ssh-keygen -R {host.connect_address}` and add the new key"
        )
    port = host.port or access.port
    scan = f"ssh-keyscan {f'-p {port} ' if port else ''}{host.connect_address}"
    known = access.known_hosts or "~/.ssh/known_hosts"
    known = "~/" + shlex.quote(known[2:]) if known.startswith("~/") else shlex.quote(known)
    return (
        f"its host key is not known here: `{scan} >> {known}` adds it (compare the fingerprint on the host first), "
        "or --set hosts.host_key_checking=accept-new"
    )
