"""Can a host be used? Each is asked once a sweep, all that a case needs at once: is it reached, has it our code?"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.sources import MARK, digest
from harness.ssh import client
from harness.ssh.hosts_file import Host

PATIENCE_S = client.CONNECT_S + 20.0
MOST_AT_ONCE = 32


class Probes:
    """What hosts have answered so far."""

    def __init__(self, access: client.Access, folder: str | None, python: Callable[[Host], str]) -> None:
        self.access, self.folder, self.python = access, folder, python
        self._found: dict[Host, str | None] = {}

    def why_not(self, hosts: Sequence[Host]) -> str | None:
        """What the first host that can't be used said, with the remedy; ``None`` where all can."""
        new = [host for host in hosts if host not in self._found]
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(MOST_AT_ONCE) as pool:
            config = Path(folder) / "ssh_config"
            config.write_text(client.config(hosts, self.access))
            self._found |= dict(zip(new, pool.map(lambda host: self._ask(config, host), new), strict=True))
        return next((f"{host.name}: {why}" for host in hosts if (why := self._found[host])), None)

    def _ask(self, config: Path, host: Host) -> str | None:
        line = client.remote_line(self.folder, {}, [self.python(host), "-m", "bench.sources"])
        try:
            done = subprocess.run(
                client.command(str(config), host, line), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=PATIENCE_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"no answer within {PATIENCE_S:g} s"
        if done.returncode == client.FAILED:
            return client.why_it_failed(done.stderr.splitlines(), host, self.access)
        return _judge(done, self.python(host), self.folder)


def _judge(done: subprocess.CompletedProcess[str], python: str, folder: str | None) -> str | None:
    """What is wrong with the code there (pure)."""
    found = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if done.returncode or found is None:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        place = f"in {folder}" if folder else "installed"
        return (f"{python} can't run our code {place} ({said}); name its interpreter and checkout: --set "
                "hosts.python=FILE --set hosts.folder=FOLDER")  # fmt: skip
    if found.removeprefix(MARK).strip() != digest():
        return "its code is another version than this one: copy this checkout there, or install the same version"
    return None
