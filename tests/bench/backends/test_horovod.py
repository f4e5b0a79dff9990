"""Horovod's environment variables, and the settings in force."""

from __future__ import annotations

import pytest

from bench.backends.horovod_emulated_ranks import look_interval_s, split_host, with_longer_cycles
from bench.backends.horovod_settings import HorovodOptions, effective_settings, environment_variables
from bench.core.case import Case
from bench.core.rank_info import RankInfo, read_rank_info
from tests.support.builders import make_case


def test_the_variables_identify_the_rank_and_the_rendezvous():
    me = RankInfo(rank=3, world=4, local_rank=1, local_world=2, rendezvous_host="10.0.0.1", rendezvous_port=99)
    variables = environment_variables(HorovodOptions(cycle_time_ms=0.1, fusion_mb=2), "gloo", me, "eth1", timeout_s=180)
    assert variables["HOROVOD_RANK"] == "3"
    assert (variables["HOROVOD_CROSS_RANK"], variables["HOROVOD_CROSS_SIZE"]) == ("1", "2")
    assert (variables["HOROVOD_GLOO_RENDEZVOUS_ADDR"], variables["HOROVOD_GLOO_RENDEZVOUS_PORT"]) == ("10.0.0.1", "99")
    assert variables["HOROVOD_GLOO_IFACE"] == "eth1"
    assert variables["HOROVOD_FUSION_THRESHOLD"] == str(2 * 2**20)
    assert variables["HOROVOD_CYCLE_TIME"] == "0.1"
    assert "HOROVOD_CYCLE_TIME" not in environment_variables(HorovodOptions(), "gloo", me, None, timeout_s=180), (
        "what is inherited"
    )


def test_under_mpi_the_rank_is_left_to_mpirun():
    me = RankInfo(0, 1, 0, 1, "h", 1)
    assert "HOROVOD_RANK" not in environment_variables(HorovodOptions(), "mpi", me, None, timeout_s=180)


@pytest.mark.parametrize("transport", ["gloo", "mpi"])
@pytest.mark.parametrize("from_horovodrun", [False, True])
def test_horovod_does_not_give_up_on_a_rank_before_the_trial_ends(transport, from_horovodrun):
    me, limit_s = RankInfo(0, 2, 0, 2, "h", 1), make_case(timeout_s=120.5).library_timeout_s
    options = HorovodOptions()
    variables = environment_variables(options, transport, me, None, timeout_s=limit_s, from_horovodrun=from_horovodrun)
    assert float(variables["HOROVOD_GLOO_TIMEOUT_SECONDS"]) > 120.5
    assert variables["HOROVOD_STALL_SHUTDOWN_TIME_SECONDS"] == "0", "a user's limit does not end it either"


def test_defaults_in_force_are_named():
    settings = effective_settings(HorovodOptions(fusion_mb=4), "gloo", "0.28.1")
    assert settings["cycle_time_ms"] == "1 (Horovod's default)"
    assert settings["fusion_mb"] == "4"


def test_settings_name_the_variable_that_set_them():
    env = {"HOROVOD_CYCLE_TIME": "5", "HOROVOD_FUSION_THRESHOLD": "33554432"}
    settings = effective_settings(HorovodOptions(cycle_time_ms=0.5), "gloo", "0.28.1", env)
    assert settings["cycle_time_ms"] == "0.5", "an option counts for more"
    assert settings["fusion_mb"] == "32 (HOROVOD_FUSION_THRESHOLD)"
    assert settings["cache_capacity"] == "1024 (Horovod's default)"


def test_what_horovod_tunes_is_not_called_its_default():
    settings = effective_settings(HorovodOptions(fusion_mb=4), "gloo", "0.28.1", {"HOROVOD_AUTOTUNE": "1"})
    assert settings["cycle_time_ms"] == "tuned by Horovod (HOROVOD_AUTOTUNE)"
    assert settings["fusion_mb"] == "4", "Horovod leaves alone what is given"
    assert effective_settings(HorovodOptions(), "gloo", "0.28.1", {"HOROVOD_AUTOTUNE": "0"})["fusion_mb"] == (
        "128 (Horovod's default)"
    )


def test_a_rank_that_horovodrun_started_keeps_the_place_that_it_got():
    env = {"HOROVOD_RANK": "3", "HOROVOD_SIZE": "4", "HOROVOD_LOCAL_RANK": "1", "HOROVOD_LOCAL_SIZE": "2"}
    me = read_rank_info(env)
    assert (me.rank, me.world, me.local_rank, me.local_world) == (3, 4, 1, 2)
    variables = environment_variables(
        HorovodOptions(cycle_time_ms=0.5), "gloo", me, "eth0", timeout_s=180, from_horovodrun=True
    )
    assert variables["HOROVOD_CYCLE_TIME"] == "0.5"
    assert not {"HOROVOD_RANK", "HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_IFACE"} & set(variables)


def emulated_case(ranks: int, **changes) -> Case:
    return make_case(backend="horovod", ranks=ranks, batch=ranks, flags=("emulated_compute",), **changes)


def test_only_ranks_that_emulate_their_compute_sleep_while_they_wait():
    me = RankInfo(3, 64, 3, 64, "h", 1)
    assert look_interval_s(make_case(backend="horovod", ranks=64, batch=64), me) is None
    few, many = (look_interval_s(emulated_case(ranks), RankInfo(1, ranks, 1, ranks, "h", 1)) for ranks in (2, 64))
    assert many / few == 32, "together they look as often"


@pytest.mark.parametrize(("ranks", "ranks_per_host"), [(2, 2), (8, 8), (12, 3), (16, 4), (64, 8), (11, 1)])
def test_many_emulated_ranks_of_a_machine_are_hosts_of_equal_size(ranks, ranks_per_host):
    places = []
    for rank in range(ranks):
        me = split_host(emulated_case(ranks), RankInfo(rank, ranks, rank, ranks, "h", 1))
        variables = environment_variables(HorovodOptions(), "gloo", me, None, timeout_s=180)
        assert (variables["HOROVOD_LOCAL_SIZE"], variables["HOROVOD_RANK"]) == (str(ranks_per_host), str(rank))
        places.append((variables["HOROVOD_CROSS_RANK"], variables["HOROVOD_LOCAL_RANK"]))
    assert len(set(places)) == ranks
    assert {int(host) for host, _ in places} == set(range(ranks // ranks_per_host))


def test_ranks_that_compute_and_those_behind_shaped_links_stay_where_they_are():
    me = RankInfo(3, 64, 3, 64, "h", 1)
    assert split_host(make_case(backend="horovod", ranks=64, batch=64), me) is me
    assert split_host(emulated_case(64, net="1gbit"), me) is me


@pytest.mark.parametrize(
    ("ranks", "given", "env", "cycle_ms"),
    [
        (64, {}, {}, "32"),
        (8, {}, {}, "1 (Horovod's default)"),
        (64, {"cycle_time_ms": 1}, {}, "1"),
        (64, {}, {"HOROVOD_CYCLE_TIME": "5"}, "5 (HOROVOD_CYCLE_TIME)"),
        (64, {}, {"HOROVOD_AUTOTUNE": "1"}, "tuned by Horovod (HOROVOD_AUTOTUNE)"),
    ],
)
def test_many_emulated_ranks_exchange_less_often_unless_it_is_said_how_often(ranks, given, env, cycle_ms):
    me = RankInfo(1, ranks, 1, ranks, "h", 1)
    options = with_longer_cycles(HorovodOptions(**given), emulated_case(ranks), me, env)
    assert effective_settings(options, "gloo", "0.28.1", env)["cycle_time_ms"] == cycle_ms
    computing = with_longer_cycles(HorovodOptions(**given), make_case(ranks=ranks, batch=ranks), me, env)
    assert computing == HorovodOptions(**given)
