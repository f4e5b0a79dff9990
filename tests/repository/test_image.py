"""The image for clusters, as far as it can be checked without building it."""

from __future__ import annotations

import re
import shlex

from tests.support.paths import ROOT


def dockerfile():
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copies = [shlex.split(rest) for name, rest in dockerfile() if name == "COPY" and "--from=" not in rest]
    assert copies
    for words in copies:
        for source in [word for word in words if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored, f"{source} is excluded from the build"


def test_the_image_is_pinned_and_not_run_by_root():
    instructions = dockerfile()
    bases = [rest for name, rest in instructions if name == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+( AS \w+)?", base) for base in bases), bases
    final_stage = [number for number, (name, _) in enumerate(instructions) if name == "FROM"][-1]
    users = [rest for name, rest in instructions[final_stage:] if name == "USER"]
    assert [user.isdigit() and user != "0" for user in users] == [True]
    assert (
        "RUN",
        "--mount=type=cache,target=/root/.cache python -m harness.setup.horovod_wheel --strict",
    ) in instructions
