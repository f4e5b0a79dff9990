"""Who is not of a trial reaches its Dask cluster on this machine, and is not let in; and can't read what would open it.

The old cluster ran whatever was submitted to it by anybody, as its owner.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from bench.host.certificate import create_certificate, write_certificate

STRANGER = """
import json, logging, sys
from distributed import Client, Security
logging.disable(logging.CRITICAL)
host, port, own = sys.argv[1:]
security = Security(require_encryption=True, tls_ca_file=own, tls_client_cert=own, tls_client_key=own)
outcome = {}
for protocol, options in {"tcp": {}, "tls": {"security": security}}.items():
    try:
        with Client(f"{protocol}://{host}:{port}", timeout=2, **options) as client:
            outcome[protocol] = client.submit(sum, [1, 2]).result(timeout=5)
    except (OSError, TimeoutError) as problem:
        outcome[protocol] = "refused"
print(json.dumps(outcome))
"""


SCHEDULER = re.compile(r"at:\s+(?:unix|tls)://(\S+):(\d+)")
"""What the scheduler logs once it listens."""


@pytest.fixture
def scheduler(harness, new_interpreter, tmp_path_factory, request):
    """Address and port of the scheduler of a trial that is running, with this value of the option ``connections``; the
    harness's temporary files are in a folder of its own."""
    harness.env["TMPDIR"] = str(tmp_path_factory.mktemp("temporary"))
    process = harness.start(
        *("sweep", harness.lean(), "--repeats", "1", "--window", "20", "--telemetry", "off"),
        *("--backends", "dask", "--workloads", "synthetic", "--ranks", "2", "--set", "dask.transport=tasks"),
        *("--set", f"backend.dask.connections={request.param}"),
    )
    deadline = time.monotonic() + 60
    found = None
    while found is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no scheduler listens"
        time.sleep(0.05)
        logs = harness.folder.glob(".runs/*/*/scheduler-0.log")
        found = next(filter(None, (SCHEDULER.search(log.read_text()) for log in logs)), None)
    yield found.groups()
    process.terminate()
    process.communicate(timeout=60)
    harness.nothing_left()
    assert list(Path(harness.env["TMPDIR"]).rglob("*.pem")) == []


@pytest.mark.parametrize("scheduler", ["auto"], indirect=True)
def test_on_one_machine_a_cluster_listens_in_a_folder_that_nobody_else_can_enter(harness, scheduler):
    _, port = scheduler
    (file,) = Path(harness.env["TMPDIR"]).rglob(f"{port}.dask")
    assert stat.S_ISSOCK(file.stat().st_mode)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with socket.socket() as network, pytest.raises(ConnectionRefusedError):
        network.connect(("127.0.0.1", int(port)))


@pytest.mark.parametrize("scheduler", ["tls"], indirect=True)
def test_a_stranger_on_the_machine_is_not_let_in_and_finds_no_key(harness, scheduler, tmp_path_factory):
    own = write_certificate(create_certificate(), tmp_path_factory.mktemp("stranger"))
    command = [sys.executable, "-c", STRANGER, *scheduler, str(own)]
    stranger = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(stranger.stdout) == {"tcp": "refused", "tls": "refused"}
    (file,) = Path(harness.env["TMPDIR"]).rglob("*.pem")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    key = file.read_text().splitlines()[1].encode()
    # Nowhere else: not on a command line or in an environment, nor in what the harness has written.
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            seen = [*process.cmdline(), *(process.environ() if process.uids().real == os.getuid() else {}).values()]
            assert not any(key.decode() in text for text in seen)
    written = [path for path in harness.folder.rglob("*") if path.is_file()]
    assert written
    assert not any(key in path.read_bytes() for path in written)
