"""Whose the processes on a GPU are, under each backend and site: the real ranks are those that NVML's substitute lists.

Other tests do the same for hosts, Slurm, Kubernetes, SageMaker, an existing Dask cluster and users' programs.
"""

from __future__ import annotations

from bench.host.installation import find_mpirun
from tests.support.gpu_processes import check_stored_owners, gpu_with_ranks

ALL = ("--backends", "single,ddp,fsdp,horovod,dask", "--set", "dask.transport=tasks,gloo")


def test_the_ranks_of_every_backend_are_the_trial_s_and_a_stranger_is_not(harness, tmp_path_factory):
    transports = "gloo,mpi" if find_mpirun() else "gloo"
    with gpu_with_ranks(tmp_path_factory.mktemp("nvml"), ranks=1) as env:
        harness.env.update(env)
        document = harness.lean_sweep(
            *ALL,
            *("--set", f"horovod.transport={transports}", "--workloads", "synthetic", "--ranks", "1"),
            *("--warmup", "1", "--steps", "3", "--telemetry", "always"),
        )
    places = {(cell["backend"], cell["transport"]) for cell in document["cells"] if cell["outcome"] == "ok"}
    assert len(places) == len(document["cells"]) == 5 + len(transports.split(",")), document["cells"]
    check_stored_owners(harness.folder, env)
