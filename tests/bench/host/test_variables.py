"""Which environment variables ranks inherit, and which are recorded."""

from __future__ import annotations

import pytest

from bench.core.rank_info import read_rank_info
from bench.host.variables import (
    HIDDEN,
    cleaned_environment,
    recorded_variables,
    removed_variables,
    without_new_variables,
)

FROM_MPIRUN = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_MCA_ess": "env",
    "OMPI_MCA_num_procs": "4",
    "PMIX_RANK": "3",
    "PMIX_SERVER_URI41": "prterun-vm-1@0.0;tcp4://127.0.0.1:1",
    "PRTE_LAUNCHED": "1",
    "OPAL_PREFIX": "/opt/other",
}
FROM_TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "far",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RUN_ID": "none",
}
FROM_HOROVODRUN = {
    "HOROVOD_RANK": "1",
    "HOROVOD_SIZE": "2",
    "HOROVOD_CONTROLLER": "mpi",
    "HOROVOD_GLOO_RENDEZVOUS_PORT": "1234",
    "HOROVOD_HOSTNAME": "far",
    "HOROVOD_ELASTIC": "1",
}
FROM_SLURM = {"SLURM_JOB_ID": "7", "SLURM_NODELIST": "n[1-2]", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
BINDING = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0", "KMP_AFFINITY": "compact"}
TUNING = {
    "HOME": "/h",
    "HOROVOD_AUTOTUNE": "1",
    "HOROVOD_CYCLE_TIME": "5",
    "OMP_NUM_THREADS": "1",
    "OMPI_MCA_btl": "tcp,self",
    "NCCL_DEBUG": "INFO",
    "PRTE_MCA_plm_ssh_agent": "ssh",
}


@pytest.mark.parametrize("stale", [FROM_MPIRUN, FROM_TORCHRUN, FROM_HOROVODRUN, FROM_SLURM, BINDING])
def test_ranks_do_not_inherit_what_an_earlier_launcher_left_behind(stale):
    assert cleaned_environment({**TUNING, **stale}) == TUNING
    assert read_rank_info(cleaned_environment({**TUNING, **stale})).world == 1
    assert removed_variables(stale) == tuple(sorted(stale))


def test_inside_a_job_the_variables_of_its_batch_system_stay():
    cleaned = cleaned_environment({**FROM_SLURM, **FROM_MPIRUN, **BINDING, **TUNING}, inside_job=True)
    assert cleaned == FROM_SLURM | TUNING


def test_a_moved_open_mpi_is_found_outside_of_mpirun():
    assert removed_variables({"OPAL_PREFIX": "/opt/mine"}) == ()


def test_what_changes_a_measurement_is_recorded_and_nothing_else():
    env = {**TUNING, **FROM_HOROVODRUN, **BINDING, "TORCH_DISTRIBUTED_DEBUG": "DETAIL", "LD_PRELOAD": "/lib/libx.so"}
    assert recorded_variables({**env, "USER": "ann", "AWS_SECRET_ACCESS_KEY": "x"}) == {
        "HOROVOD_AUTOTUNE": "1",
        "HOROVOD_CYCLE_TIME": "5",
        "LD_PRELOAD": "/lib/libx.so",
        "NCCL_DEBUG": "INFO",
        "OMPI_MCA_btl": "tcp,self",
        "OMP_NUM_THREADS": "1",
        "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    }


def test_what_changes_from_job_to_job_without_changing_speed_is_not_recorded():
    interfaces = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "=lo", "OMPI_MCA_btl_tcp_if_include": "eth0"}
    places = {"CUDA_VISIBLE_DEVICES": "3", "TORCH_HOME": "/tmp/x", "TORCHINDUCTOR_CACHE_DIR": "/tmp/y"}
    scratch = {"OMPI_MCA_btl_sm_backing_directory": "/dev/shm/scaling-scratch-76mczxki"}
    by_torchrun = {"TORCHELASTIC_RUN_ID": "none", "OMP_NUM_THREADS": "1"}
    on_one_host = {"OMPI_MCA_btl": "^tcp"}
    assert recorded_variables(interfaces | places | scratch | by_torchrun | on_one_host) == {}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("DASK_GATEWAY__AUTH__PASSWORD", "hunter2", HIDDEN),
        ("HOROVOD_API_KEY", "x", HIDDEN),
        ("DASK_GATEWAY__ADDRESS", "https://ann:hunter2@hub:443/x", f"https://{HIDDEN}@hub:443/x"),
        ("NCCL_EXTRA", "token=ghp_0123456789abcdefABCD", f"token={HIDDEN}"),
        ("UCX_NOTE", "9f86d081884c7d659a2feaa0c55ad015", HIDDEN),
        ("LD_PRELOAD", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID", "PCI_BUS_ID"),
        ("NCCL_IB_HCA", "x" * 300, "x" * 200 + "…"),
    ],
)
def test_secrets_are_not_recorded(name, value, shown):
    assert recorded_variables({name: value}) == {name: shown}


def test_variables_that_are_new_at_the_end_of_a_context_are_removed_and_others_stay():
    env = {"KEPT": "1", "CHANGED": "1"}
    with without_new_variables(env):
        env |= {"NEW": "1", "CHANGED": "2"}
    assert env == {"KEPT": "1", "CHANGED": "2"}
