"""Can a host be used? Each is asked once a sweep, all that a case needs at once: is it reached, has it our code?"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.plugins.sources import DIGEST_PREFIX, sources_digest
from harness.sites.hosts import client
from harness.sites.hosts.hosts_file import Host

CHECK_TIMEOUT_S = client.CONNECT_TIMEOUT_S + 20.0
MAX_PARALLEL = 32


class HostChecks:
    """What hosts have answered so far."""

    def __init__(self, access: client.SshAccess, folder: str | None, python: Callable[[Host], str]) -> None:
        self.access, self.folder, self.python = access, folder, python
        self._failures: dict[Host, str | None] = {}

    def unavailable_reason(self, hosts: Sequence[Host]) -> str | None:
        """What the first host that can't be used said, with the remedy; ``None`` where all can."""
        unchecked = [host for host in hosts if host not in self._failures]
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(MAX_PARALLEL) as pool:
            config = Path(folder) / "ssh_config"
            config.write_text(client.ssh_config(hosts, self.access))
            self._failures |= dict(
                zip(unchecked, pool.map(lambda host: self._check(config, host), unchecked), strict=True)
            )
        return next((f"{host.name}: {why}" for host in hosts if (why := self._failures[host])), None)

    def _check(self, config: Path, host: Host) -> str | None:
        line = client.remote_command(self.folder, {}, [self.python(host), "-m", "bench.plugins.sources"])
        try:
            result = subprocess.run(
                client.ssh_command(str(config), host, line),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CHECK_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {CHECK_TIMEOUT_S:g} s"
        if result.returncode == client.SSH_FAILED:
            return client.connection_failure(result.stderr.splitlines(), host, self.access)
        return _source_failure(result, self.python(host), self.folder)


def _source_failure(result: subprocess.CompletedProcess[str], python: str, folder: str | None) -> str | None:
    """What is wrong with the code there (pure)."""
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
