"""The environment of a sweep, and what must be equal before two sweeps are compared."""

from __future__ import annotations

import hashlib
import json

from harness.planning.environment import Environment

FACTS = {
    "host": "node7",
    "system": "Linux 6",
    "cpu": "AMD EPYC",
    "cores": 2,
    "memory_bytes": 2**33,
    "gpus": (),
    "python": "3.11.2",
    "packages": {"torch": "2.13.0"},
    "commit": "abc",
    "changed_files": False,
}


def test_a_cpu_quota_is_part_of_the_place_and_of_what_people_read():
    free, limited = Environment(**FACTS), Environment(**FACTS, cpu_quota_cores=2.5)
    assert limited.place["cpu_quota_cores"] == "2.5"
    assert limited.place != free.place
    assert limited.id != free.id
    assert limited.machine == "node7: AMD EPYC, 2 cores (CPU quota of 2.5)"


def test_without_a_quota_an_environment_is_that_of_before_there_was_such_a_field():
    stored = json.dumps(FACTS, separators=(",", ":"))
    environment = Environment.model_validate_json(stored)
    assert environment.id == hashlib.sha256(stored.encode()).hexdigest()[:12]
    assert "cpu_quota_cores" not in environment.place


def test_why_a_commit_is_unknown_is_not_compared():
    unknown = Environment(**FACTS | {"commit": None})
    explained = Environment(**FACTS | {"commit": None}, commit_reason="not a git checkout")
    assert (explained.id, explained.place) == (unknown.id, unknown.place)
    assert "commit_reason" not in explained.place
