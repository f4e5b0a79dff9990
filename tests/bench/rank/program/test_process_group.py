"""Whether a program has joined other ranks."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAY = "from bench.rank.program.process_group import joined_others; print(joined_others())"
GROUP = """
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
dist.init_process_group("fake", store=FakeStore(), rank=0, world_size={ranks})
"""


def said_after(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{SAY}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_of_another_framework_it_is_not_known():
    assert said_after("") == "None"


@pytest.mark.frameworks
@pytest.mark.parametrize(
    ("code", "joined"), [("import torch", "False"), (GROUP.format(ranks=1), "False"), (GROUP.format(ranks=2), "True")]
)
def test_a_process_group_of_several_ranks_has_been_joined(code, joined):
    assert said_after(code) == joined
