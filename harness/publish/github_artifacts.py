"""Downloads the results store that the last night uploaded as an artifact to GitHub.

    python -m harness.publish.github_artifacts nightly-store .runs

Needs GitHub's command line `gh` and nothing but the standard library. A cache would not do: it is dropped after a week
without use, and a missing one looks like a first night. Here the first night is the one without an artifact; any other
error ends the job before it could begin a new history.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from harness.defects import install_hooks


def newest_run(artifacts: Iterable[Mapping[str, Any]], branch: str) -> int | None:
    """The run with the newest artifact of a branch of this repository; forks may have a branch of the same name."""
    own_artifacts = [
        (artifact["created_at"], artifact["workflow_run"]["id"])
        for artifact in artifacts
        if not artifact["expired"]
        and artifact["workflow_run"]["head_branch"] == branch
        and artifact["workflow_run"]["head_repository_id"] == artifact["workflow_run"]["repository_id"]
    ]
    return max(own_artifacts)[1] if own_artifacts else None


def parser() -> argparse.ArgumentParser:
    argument_parser = argparse.ArgumentParser(
        prog="python -m harness.publish.github_artifacts", description=(__doc__ or "").partition("\n")[0]
    )
    argument_parser.add_argument("name", help="name of the artifact")
    argument_parser.add_argument("folder", help="folder to unpack it to")
    return argument_parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    repository = os.environ["GITHUB_REPOSITORY"]
    branch = _api(f"repos/{repository}")["default_branch"]
    listed = _api(f"repos/{repository}/actions/artifacts?name={quote(options.name, safe='')}&per_page=100")["artifacts"]
    run = newest_run(listed, branch)
    if run is None:
        print(f"{branch} has no artifact {options.name} yet: a new history begins")
        return 0
    subprocess.run(["gh", "run", "download", str(run), "--name", options.name, "--dir", options.folder], check=True)
    print(f"the history continues from run {run}")
    return 0


def _api(path: str) -> Any:
    done = subprocess.run(["gh", "api", path], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    install_hooks()
    sys.exit(main())
