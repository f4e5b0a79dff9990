"""The entry point of SageMaker's containers: :mod:`bench.node.agent`, after it has found out which host this is.

    python -m bench.node.sagemaker_entry --trials FILE --out FOLDER --archives FOLDER

The entry point of SageMaker's own images sets SM_HOSTS and SM_CURRENT_HOST; a container that runs this one instead
reads the same from resourceconfig.json. SageMaker's MPI driver is not used: the ranks communicate over Gloo.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from bench.core.exit_report import NodeReport
from bench.core.records import RankFailure
from bench.host.machine import host_name
from bench.host.network import wait_for_hostnames
from bench.host.regular_files import read_regular
from bench.node import agent
from bench.node.flight_records import remove_request_pipes
from bench.node.rendezvous import INTERFACE_VARIABLE
from bench.node.transfer import MAX_FILE_BYTES

ModelT = TypeVar("ModelT", RankFailure, NodeReport)

RESOURCE_CONFIG_FILE = Path("/opt/ml/input/config/resourceconfig.json")
FAILURE_FILE = Path("/opt/ml/output/failure")
"""SageMaker reports its first 1,024 characters as the reason of the job's failure."""
HOSTNAME_TIMEOUT_S = 120.0
"""How long the names of hosts that have not started yet may be unknown."""


def host_variables(resources: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """The variables that name the hosts, this host and its interface (pure), without those that ``env`` has."""
    variables = {
        "SM_HOSTS": json.dumps(resources["hosts"]),
        "SM_CURRENT_HOST": resources["current_host"],
        INTERFACE_VARIABLE: resources.get("network_interface_name", ""),
    }
    return {name: value for name, value in variables.items() if value and name not in env}


def failure_reason(out: Path) -> str:
    """The first failure on this host in one line, from the files in ``out`` and in its folders, one for each trial."""
    failures = _read_all(out, "failure-*.json", RankFailure)
    if failures:
        first = min(failures, key=lambda failure: failure.at)
        return f"{first.role} {first.rank}: {first.error}"
    problems = (report.problem for report in _read_all(out, "node-*.json", NodeReport) if report.problem)
    return next(problems, "a process failed without reporting an error; see the log")


def _read_all(out: Path, pattern: str, kind: type[ModelT]) -> list[ModelT]:
    """What processes left, without what is damaged."""
    found = []
    for path in (*out.glob(pattern), *out.glob(f"*/{pattern}")):
        with suppress(OSError, ValueError):
            found.append(kind.model_validate_json(read_regular(path, MAX_FILE_BYTES).decode()))
    return found


def main(arguments: Sequence[str]) -> int:
    if RESOURCE_CONFIG_FILE.exists():
        resources = json.loads(RESOURCE_CONFIG_FILE.read_text())
        os.environ.update(host_variables(resources, os.environ))
        wait_for_hostnames(resources["hosts"], HOSTNAME_TIMEOUT_S)
    status = agent.main(arguments)
    out = Path(arguments[arguments.index("--out") + 1])
    for folder in (out, *out.glob("*/")):
        remove_request_pipes(folder)
    if status:
        FAILURE_FILE.write_text(f"{host_name()}: {failure_reason(out)}")
    return status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # As :mod:`bench.node.agent` ends: everything that counts is written.
    os._exit(code)
