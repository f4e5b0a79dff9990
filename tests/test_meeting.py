"""Where the process that others meet listens: on one address, the one that they come in by."""

from __future__ import annotations

import pytest

from bench.backends.ddp import hosts_store
from bench.identity import read_rank_info
from bench.local import bind_address


@pytest.mark.parametrize(
    ("meeting", "own", "bound"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("10.77.0.1", None, "10.77.0.1"),
        ("10.77.0.1", "10.0.0.5", "10.0.0.5"),
        ("127.0.1.1", "10.0.0.5", "10.0.0.5"),
        ("localhost", "10.0.0.5", "10.0.0.5"),
        ("::1", "fd00::5", "fd00::5"),
        ("no such name", "10.0.0.5", "10.0.0.5"),
    ],
)
def test_whoever_serves_listens_on_its_own_interface_whatever_its_name_means_to_it(meeting, own, bound):
    assert bind_address(meeting, own) == bound


def test_torchrun_s_agent_serves_the_ranks_that_it_starts():
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    assert hosts_store(read_rank_info({**place, "RANK": "0"}), {})
    assert not hosts_store(read_rank_info({**place, "RANK": "1"}), {})
    assert not hosts_store(read_rank_info({**place, "RANK": "0"}), {"TORCHELASTIC_USE_AGENT_STORE": "True"})
