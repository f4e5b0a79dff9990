"""What SageMaker's containers run: :mod:`bench.node.agent` for one host, which learns here who it is.

    python -m bench.node.sagemaker_entry --case FILE --out FOLDER

SageMaker's own images learn their place by their own entry, which sets SM_HOSTS and SM_CURRENT_HOST; a container that
runs ours instead finds the same in resourceconfig.json. SageMaker's MPI driver is not used: the ranks meet over Gloo.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.exit_report import NodeReport
from bench.core.records import RankFailure
from bench.host.network import wait_for_hostnames
from bench.node import agent
from bench.node.rendezvous import INTERFACE_VARIABLE

RESOURCE_CONFIG_FILE = Path("/opt/ml/input/config/resourceconfig.json")
FAILURE_FILE = Path("/opt/ml/output/failure")
"""SageMaker gives its first 1,024 characters as the reason of the job's failure."""
HOSTNAME_TIMEOUT_S = 120.0
"""Hosts do not start at the same time; until one has, its name may be unknown."""


def host_variables(resources: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Which host this is, of which, and by which interface they meet (pure); what is set already stays."""
    variables = {
        "SM_HOSTS": json.dumps(resources["hosts"]),
        "SM_CURRENT_HOST": resources["current_host"],
        INTERFACE_VARIABLE: resources.get("network_interface_name", ""),
    }
    return {name: value for name, value in variables.items() if value and name not in env}


def failure_reason(out: Path) -> str:
    """The first failure on this host in one line, from what was left in ``out``."""
    failures = [RankFailure.model_validate_json(path.read_text()) for path in out.glob("failure-*.json")]
    if failures:
        first = min(failures, key=lambda failure: failure.at)
        return f"{first.role} {first.rank}: {first.error}"
    reports = [NodeReport.model_validate_json(path.read_text()) for path in out.glob("node-*.json")]
    return next((report.problem for report in reports if report.problem), "a process ended without a word; see the log")


def main(arguments: Sequence[str]) -> int:
    if RESOURCE_CONFIG_FILE.exists():
        resources = json.loads(RESOURCE_CONFIG_FILE.read_text())
        os.environ.update(host_variables(resources, os.environ))
        wait_for_hostnames(resources["hosts"], HOSTNAME_TIMEOUT_S)
    status = agent.main(arguments)
    if status:
        out = Path(arguments[arguments.index("--out") + 1])
        FAILURE_FILE.write_text(f"{socket.gethostname()}: {failure_reason(out)}")
    return status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # As a node ends: nothing is waited for, since all that counts is written by now.
    os._exit(code)
