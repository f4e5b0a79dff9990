"""Options, names of hosts and names of cases become words of shells, lines of configurations and names of jobs: one
word, one line and a name that the system accepts each, or they are refused."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.sites.base.contract import SITES
from harness.sites.hosts.client import SshAccess, remote_command, ssh_config
from harness.sites.hosts.hosts_file import Host
from harness.sites.kubernetes.manifests import object_name, sweep_label
from harness.sites.sagemaker.training_job import job_name
from tests.support.builders import make_case

PAYLOADS = (
    "a;touch hostile",
    "$(touch hostile)",
    "`touch hostile`",
    "a|touch hostile",
    "a&touch hostile",
    "a>hostile",
    "a\ntouch hostile",
    "a\n#SBATCH --wrap=hostile",
    "a\n",
    "a\0b",
    "--wrap=hostile",
    "--x",
    "-oProxyCommand=hostile",
    "a b",
    "'",
    '"',
    "\x1b[2J",
)
QUOTED = {("hosts", "identity"), ("hosts", "known_hosts"), ("hosts", "python"), ("hosts", "folder")}
"""Paths that may have spaces and most other characters: each is one word where it is used."""
OPENED = {("hosts", "file")}
"""The name of a file on this machine."""
TAGS = {("sagemaker", "tags"), ("slurm", "constraint")}
"""Values of AWS's and Slurm's own syntax, behind ``--constraint=`` and in a request: no shell reads them."""


def text_options():
    for name in SITES.names():
        for option, field in SITES.load(name).options.model_fields.items():
            if "str" in str(field.annotation):
                yield name, option


@pytest.mark.parametrize(("site", "option"), sorted({*text_options()} - QUOTED - OPENED - TAGS))
def test_an_option_is_one_word_or_refused(site, option):
    for payload in PAYLOADS:
        with pytest.raises(ValidationError):
            SITES.load(site).options(**{option: payload})


@pytest.mark.parametrize(("site", "option"), sorted(QUOTED | TAGS))
def test_no_option_has_two_lines(site, option):
    for payload in (payload for payload in PAYLOADS if {"\n", "\0", '"', "\x1b"} & set(payload)):
        with pytest.raises(ValidationError):
            SITES.load(site).options(**{option: payload})


@pytest.mark.slow
@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if "\0" not in payload])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_remote_command_is_its_words(tmp_path, shell, payload):
    folder = tmp_path / "checkout" / payload.replace("/", "_")
    folder.mkdir(parents=True)
    line = remote_command(str(folder), {"NAME": payload}, ["printf", r"%s\0", payload, "--", "x"])
    done = subprocess.run([shell, "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{payload}\0--\0x\0"
    assert not list(tmp_path.rglob("hostile"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh: apt-get install openssh-client")
@pytest.mark.parametrize("path", ["a;b", "a b", "`x`", "a'b", "%h", "a#b", "a|b"])
def test_a_path_is_one_setting_of_ssh(tmp_path, path):
    config = ssh_config([Host(name="n1", address="127.0.0.1")], SshAccess(known_hosts=path, identity=f"/{path}"))
    (tmp_path / "config").write_text(
        config.replace("Include ~/.ssh/config", "").replace("Include /etc/ssh/ssh_config", "")
    )
    done = subprocess.run(["ssh", "-G", "-F", tmp_path / "config", "n1"], capture_output=True, text=True, check=True)
    settings = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert settings["userknownhostsfile"].strip('"') in (path, path.replace("%", "%%"))
    assert settings["stricthostkeychecking"] in ("true", "yes")


@given(st.text(), st.text())
def test_names_of_jobs_are_names(workload, backend):
    case = make_case(workload=workload, backend=backend)
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", job_name(case))
    folder = Path(workload.replace("\0", "")) / "00-1a2b3c4d"
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,55}[a-z0-9])?", object_name(folder))
    assert re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", sweep_label(folder))
