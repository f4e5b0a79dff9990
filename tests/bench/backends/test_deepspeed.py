"""DeepSpeed's limits, which need no DeepSpeed, and its stages on real ranks, where it is installed."""

from __future__ import annotations

import importlib.util

import pytest

from bench.backends.deepspeed import BACKEND
from tests.support.builders import make_case


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, None),
        ({"optimizer": "adamw", "accumulate": 2, "recompute": "blocks"}, None),
        ({"clip": 1.0}, "clips in its engine's step"),
        ({"precision": "bf16"}, "turns off a torch.autocast"),
        ({"autocast": "bf16"}, "turns off a torch.autocast"),
    ],
)
def test_options_that_its_engine_takes_away_are_named(options, why):
    reason = BACKEND.unsupported_reason(make_case(backend="deepspeed", workload_options=options))
    assert reason is None if why is None else why in reason


def test_where_it_is_not_installed_the_remedy_is_said():
    reason = BACKEND.unavailable_reason(make_case(backend="deepspeed"))
    if importlib.util.find_spec("deepspeed") is None:
        assert "deepspeed not installed" in reason or "torch, deepspeed not installed" in reason
        assert "deepspeed" in reason.partition(":")[2]
    else:
        assert reason is None
