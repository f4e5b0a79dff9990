from __future__ import annotations

import pytest

from bench.backends.dask.backend import BACKEND as DASK
from bench.backends.ddp import BACKEND as DDP
from bench.backends.horovod import BACKEND as HOROVOD
from bench.backends.horovod import HorovodOptions, effective_settings, environment_variables
from bench.core.case import roles_to_start
from bench.core.rank_info import RankInfo
from harness.sites.local.site import SITE
from tests.support.builders import make_case
from tests.support.paths import GOLDEN


@pytest.mark.parametrize(
    ("name", "backend", "transport"),
    [("ddp", DDP, "gloo"), ("horovod-mpi", HOROVOD, "mpi"), ("dask-tasks", DASK, "tasks")],
)
def test_rendered_commands(name, backend, transport):
    case = make_case(backend=backend.name, transport=transport)
    rendered = SITE.render(case, roles_to_start(backend.launch(case)))["commands.sh"]
    assert rendered == (GOLDEN / f"local-{name}.sh").read_text()


def test_horovod_s_variables_say_who_and_where():
    me = RankInfo(rank=3, world=4, local_rank=1, local_world=2, rendezvous_host="10.0.0.1", rendezvous_port=99)
    found = environment_variables(HorovodOptions(cycle_time_ms=0.1, fusion_mb=2), "gloo", me, "eth1")
    assert found["HOROVOD_RANK"] == "3"
    assert (found["HOROVOD_CROSS_RANK"], found["HOROVOD_CROSS_SIZE"]) == ("1", "2")
    assert (found["HOROVOD_GLOO_RENDEZVOUS_ADDR"], found["HOROVOD_GLOO_RENDEZVOUS_PORT"]) == ("10.0.0.1", "99")
    assert found["HOROVOD_GLOO_IFACE"] == "eth1"
    assert found["HOROVOD_FUSION_THRESHOLD"] == str(2 * 2**20)
    assert found["HOROVOD_CYCLE_TIME"] == "0.1"
    assert environment_variables(HorovodOptions(), "gloo", me, None)["HOROVOD_CYCLE_TIME"] is None


def test_horovod_under_mpi_leaves_ranks_to_mpirun():
    me = RankInfo(0, 1, 0, 1, "h", 1)
    assert "HOROVOD_RANK" not in environment_variables(HorovodOptions(), "mpi", me, None)


def test_defaults_in_force_are_spelled_out():
    told = effective_settings(HorovodOptions(fusion_mb=4), "gloo", "0.28.1")
    assert told["cycle_time_ms"] == "1 (Horovod's default)"
    assert told["fusion_mb"] == "4"
