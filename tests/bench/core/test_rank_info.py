"""The rank of a process, from the variables of each launcher."""

from __future__ import annotations

import pytest

from bench.core.rank_info import RankInfo, read_rank_info


@pytest.mark.parametrize(
    ("env", "ranks"),
    [
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2"}, (3, 4, 1, 2)),
        (
            {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "SLURM_PROCID": "0"},
            (1, 4, 1, 2),
        ),
        (
            {"HOROVOD_RANK": "2", "HOROVOD_SIZE": "4", "HOROVOD_LOCAL_RANK": "0", "HOROVOD_LOCAL_SIZE": "2"},
            (2, 4, 0, 2),
        ),
        (
            {
                "OMPI_COMM_WORLD_RANK": "1",
                "OMPI_COMM_WORLD_SIZE": "2",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
                "RANK": "0",
                "WORLD_SIZE": "1",
            },
            (1, 2, 1, 2),
        ),
    ],
    ids=["srun", "torchrun under srun", "horovodrun", "mpirun under a rank"],
)
def test_the_variables_of_each_launcher_are_read(env, ranks):
    me = read_rank_info(env)
    assert (me.rank, me.world, me.local_rank, me.local_world) == ranks


def test_a_process_without_a_launcher_is_the_only_rank():
    assert read_rank_info({}) == RankInfo(0, 1, 0, 1, "127.0.0.1", 29500)


def test_the_address_of_rank_0_is_read():
    env = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    address = {"MASTER_ADDR": "h", "MASTER_PORT": "7", "OWN_ADDR": "10.0.0.2"}
    assert read_rank_info({**env, **address}) == RankInfo(3, 4, 1, 2, "h", 7, "10.0.0.2")
