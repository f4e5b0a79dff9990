"""The name of a machine as records, messages and files have it."""

from __future__ import annotations

import os
import platform

import pytest

from bench.core.machine import MachineFacts
from bench.host.machine import host_name, read_machine_facts


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("node7.example.org", "node7.example.org"),
        ("größe-1", "größe-1"),
        ("", "unnamed"),
        ("a/b", "a_b"),
        ("my laptop", "my_laptop"),
        ("x\ny", "x_y"),
        (os.fsdecode(b"\xff\xfe"), "__"),
    ],
)
def test_any_bytes_that_a_kernel_takes_for_a_name_become_a_word(name, written):
    assert host_name(name) == written
    assert (MachineFacts(**read_machine_facts().model_dump() | {"host": host_name(name)})).model_dump_json()


def test_an_ordinary_name_is_that_of_the_kernel():
    assert host_name() == host_name(platform.node())
