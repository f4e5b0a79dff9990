"""The steps of GitHub's and GitLab's templates, run by bash in a clone; what needs the hosted service is replaced.

========================= ==========================================================================
actions/checkout          a clone of the user's repository, whole
actions/setup-python      a virtual environment that sees the packages of this one, without the harness
actions/upload-artifact   nothing: the test reads the files where they are
gh                        a program that answers what the test has laid down (:mod:`tests.support.gh`)
GitLab's cache, artifacts nothing: the files stay where they are
a package index           a folder with the wheel of these sources, the only place where pip looks
========================= ==========================================================================
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from tests.support.gh import install as install_gh
from tests.support.installed import OWN_PACKAGES, build_wheel, environment_variables
from tests.support.paths import ROOT

CI = ROOT / "docs" / "ci"
REPLACED_ACTIONS = {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}


class Runner:
    """A machine of a hosted service, with one clone; the history of earlier nights is in the clone already.

    Args:
        folder: For the clone and the environment.
        repository: What is cloned.
        wheels: A folder for the wheel, which is built once for a folder.
    """

    def __init__(self, folder: Path, repository: Path, wheels: Path) -> None:
        self.clone, self.summary = folder / "clone", folder / "summary.md"
        subprocess.run(["git", "clone", "--quiet", str(repository), str(self.clone)], check=True)
        environment = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
        (site_packages,) = environment.glob("lib/python*/site-packages")
        (site_packages / "others.pth").write_text(f"{_link_others(folder / 'others')}\n")
        self.gh, env = install_gh(folder / "gh")
        self.env = environment_variables() | {
            "PATH": os.pathsep.join([str(environment / "bin"), env["PATH"]]),
            "GITHUB_REPOSITORY": "o/r",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(build_wheel(wheels).parent),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def update(self) -> None:
        """Fetch and check out what the repository has now."""
        subprocess.run(["git", "pull", "--quiet"], cwd=self.clone, check=True)

    def run_github(self, template: str, job: str) -> dict[str, int]:
        """Run the steps of a job in order; after a failed one only those that always run. Returns their statuses."""
        workflow = yaml.safe_load((CI / template).read_text())
        statuses: dict[str, int] = {}
        for step in workflow["jobs"][job]["steps"]:
            if "uses" in step:
                assert step["uses"].partition("@")[0] in REPLACED_ACTIONS, step
                continue
            always = str(step.get("if", "")).startswith("always()")
            if any(statuses.values()) and not always:
                continue
            variables = _literal({**workflow.get("env", {}), **step.get("env", {})})
            statuses[step["name"]] = self.run(step["run"], variables)
        return statuses

    def run_gitlab(self, job: str, **variables: str) -> int:
        """Run ``before_script`` and ``script`` of a job; returns the status of the script."""
        jobs = yaml.safe_load((CI / "gitlab-ci.yml").read_text())
        merged = _extended(jobs, jobs[job])
        script = "\n".join([*merged["before_script"], *merged["script"]])
        return self.run(script, {**_literal(merged["variables"]), **variables})

    def run(self, script: str, variables: Mapping[str, str] = MappingProxyType({})) -> int:
        """Run a script as the hosted services do; returns its status."""
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=self.clone,
            env={**self.env, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        # Shown where a test fails.
        print(script, done.stdout, done.stderr, f"status {done.returncode}", sep="\n")
        return done.returncode


def _link_others(folder: Path) -> Path:
    """A folder with links to the installed packages, but without the harness: pip would find it installed already."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.name not in OWN_PACKAGES and "scaling_harness" not in entry.name:
            (folder / entry.name).symlink_to(entry)
    return folder


def _extended(jobs: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    parent = jobs[job["extends"]]
    return {**parent, **job, "variables": {**parent.get("variables", {}), **job.get("variables", {})}}


def _literal(variables: dict[str, Any]) -> dict[str, str]:
    """The variables; expressions of the hosted service become empty."""
    return {name: re.sub(r"\$\{\{.*?\}\}", "", str(value)) for name, value in variables.items()}
