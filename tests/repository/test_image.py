"""The image for clusters, as far as it can be judged without building it."""

from __future__ import annotations

import re
import shlex

from tests.support.paths import ROOT


def dockerfile():
    text = (ROOT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def test_the_image_is_made_of_what_is_there():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for instruction, rest in dockerfile():
        words = [word for word in shlex.split(rest) if not word.startswith("--")]
        if instruction == "COPY" and "--from=" not in rest:
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, f"{source} is kept from the build"


def test_the_image_is_pinned_and_not_run_by_root():
    instructions = dockerfile()
    bases = [rest for name, rest in instructions if name == "FROM"]
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+( AS \w+)?", base) for base in bases), bases
    last = [one for one, (name, _) in enumerate(instructions) if name == "FROM"][-1]
    users = [rest for name, rest in instructions[last:] if name == "USER"]
    assert [user.isdigit() and user != "0" for user in users] == [True]
    assert (
        "RUN",
        "--mount=type=cache,target=/root/.cache python -m harness.setup.horovod_wheel --strict",
    ) in instructions
