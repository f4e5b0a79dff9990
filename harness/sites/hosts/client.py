"""ssh: one configuration for all connections of a trial, command lines for the hosts, and the check of a host.

The configuration comes before the user's own, and ssh keeps the first value of an option: jump hosts and keys of
``~/.ssh/config`` still apply, and none of its lines weakens the check of host keys.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from bench.host.commands import CommandTimeout, run_command
from bench.host.running_code import sources_digest
from bench.host.scratch import open_scratch
from bench.plugins.sources import DIGEST_PREFIX
from harness.sites.hosts.hosts_file import Host

CONNECT_TIMEOUT_S = 10
# A host that has lost its power or its network is noticed after this many intervals.
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 3
SSH_FAILED = 255
"""The exit status of ssh itself; all others are those of the remote command."""
CHECK_TIMEOUT_S = CONNECT_TIMEOUT_S + 20.0
MAX_PARALLEL_CHECKS = 32


class SshAccess(NamedTuple):
    """How ssh reaches hosts that have no settings of their own. ``None``: ssh's own default."""

    user: str | None = None
    port: int | None = None
    identity: str | None = None
    known_hosts: str | None = None
    host_key_checking: Literal["strict", "accept-new"] = "strict"


def ssh_config(hosts: Sequence[Host], access: SshAccess) -> str:
    """The configuration file for ``ssh -F`` (pure)."""
    lines = [line for host in hosts for line in _host_lines(host, access)]
    lines += [f"Host {' '.join(_host_names(hosts))}", *(f"    {line}" for line in _shared_lines(access))]
    return "\n".join([*lines, "Match all", "    Include ~/.ssh/config", "    Include /etc/ssh/ssh_config", ""])


def _host_lines(host: Host, access: SshAccess) -> list[str]:
    user, port = host.user or access.user, host.port or access.port
    settings = {"HostName": host.address, "User": user, "Port": port}
    lines = [f"    {name} {value}" for name, value in settings.items() if value is not None]
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
        # No shared connections: they would outlive the trial.
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
    """A path in quotation marks; ssh expands percent signs that are not doubled."""
    return '"' + path.replace("%", "%%") + '"'


def ssh_command(config_file: str, host: Host, remote: str) -> list[str]:
    """ssh's argument list (pure). ``remote`` is a line for the host's login shell."""
    return ["ssh", "-F", config_file, host.name, remote]


def remote_command(folder: str | None, env: Mapping[str, str], arguments: Sequence[str]) -> str:
    """A line for any login shell that runs a command (pure).

    Args:
        folder: The checkout on the host, which becomes the working directory; ``None``: our package is installed there.
        env: Variables of the command.
        arguments: The command.
    """
    variables = {**({"PYTHONPATH": folder} if folder else {}), **env}
    assignments = [f"{name}={value}" for name, value in variables.items()]
    change_folder = f"cd {shlex.quote(folder)} && " if folder else ""
    return change_folder + "exec " + shlex.join(["env", *assignments, *arguments] if assignments else arguments)


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
"""They mark ssh's own messages among the output of a login."""


def is_silent(output: Sequence[str]) -> bool:
    """Whether ssh says nothing of a connection that was refused or lost (pure): with its status 255, the command was
    killed by a signal then."""
    return not any(mark in line for line in output for mark in (*SSH_MESSAGE_MARKS, "Host key verification failed"))


def connection_failure(output: Sequence[str], host: Host, access: SshAccess) -> str:
    """Why a connection was refused or lost, from the output of ssh, with the remedy where there is one (pure)."""
    lines = [line.strip() for line in output if line.strip()]
    if any("Host key verification failed" in line for line in lines):
        return _host_key_failure(lines, host, access)
    ssh_messages = [line for line in lines if any(mark in line for mark in SSH_MESSAGE_MARKS)]
    message = (ssh_messages or lines or ["ssh ended without a message"])[-1]
    if "Permission denied" in message:
        return f"{message.rstrip('.')}; name a key that it accepts: --set hosts.identity=FILE"
    return message


def _host_key_failure(lines: Sequence[str], host: Host, access: SshAccess) -> str:
    if any("IDENTIFICATION HAS CHANGED" in line for line in lines):
        return (
            "its host key is not the one in known_hosts: another machine may be answering; if it was reinstalled, "
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


class HostChecks:
    """Whether hosts can be reached and have our code. Each is checked once, all that a case needs at the same time.

    Args:
        access: How ssh reaches the hosts.
        folder: The checkout on the hosts; ``None``: our package is installed there.
        python: The interpreter of a host.
    """

    def __init__(self, access: SshAccess, folder: str | None, python: Callable[[Host], str]) -> None:
        self.access, self.folder, self.python = access, folder, python
        self._failures: dict[Host, str | None] = {}

    def unavailable_reason(self, hosts: Sequence[Host]) -> str | None:
        """Why the first host that can't be used can't, with the remedy; ``None`` where all can."""
        unchecked = [host for host in hosts if host not in self._failures]
        with tempfile.TemporaryDirectory(dir=open_scratch()) as folder, ThreadPoolExecutor(MAX_PARALLEL_CHECKS) as pool:
            config = Path(folder) / "ssh_config"
            config.write_text(ssh_config(hosts, self.access))
            results = pool.map(lambda host: self._check(config, host), unchecked)
            self._failures |= dict(zip(unchecked, results, strict=True))
        return next((f"{host.name}: {reason}" for host in hosts if (reason := self._failures[host])), None)

    def _check(self, config: Path, host: Host) -> str | None:
        line = remote_command(self.folder, {}, [self.python(host), "-m", "bench.plugins.sources"])
        try:
            result = run_command(ssh_command(str(config), host, line), CHECK_TIMEOUT_S)
        except CommandTimeout:
            return f"no answer within {CHECK_TIMEOUT_S:g} s"
        if result.returncode == SSH_FAILED:
            return connection_failure(result.stderr.splitlines(), host, self.access)
        return _source_failure(result, self.python(host), self.folder)


def _source_failure(result: subprocess.CompletedProcess[str], python: str, folder: str | None) -> str | None:
    """What is wrong with the code on a host, from the output of :mod:`bench.plugins.sources` there (pure)."""
    digest_line = next((line for line in result.stdout.splitlines() if line.startswith(DIGEST_PREFIX)), None)
    if result.returncode or digest_line is None:
        last_error = (result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1]
        location = f"in {folder}" if folder else "installed"
        return (
            f"{python} can't run our code {location} ({last_error}); name its interpreter and checkout: --set "
            "hosts.python=FILE --set hosts.folder=FOLDER"
        )
    if digest_line.removeprefix(DIGEST_PREFIX).strip() != sources_digest():
        return "its code is another version than this one: copy this checkout there, or install the same version"
    return None
