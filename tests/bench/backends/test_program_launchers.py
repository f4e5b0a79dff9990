"""The variables that launchers give to the ranks of a program."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from bench.backends.mpirun import mpi_variables
from bench.backends.programs import common_variables
from bench.backends.torchrun import torchrun_variables
from bench.core.rank_info import RankInfo, read_rank_info
from bench.plugins.registry import load_backend
from tests.support.builders import make_case


def program_case(backend: str, **changes):
    return make_case(backend=backend, workload="script", transport="any", **changes)


ME = RankInfo(rank=3, world=4, local_rank=1, local_world=2, rendezvous_host="10.0.0.1", rendezvous_port=1234)


def test_torchrun_gives_what_its_agent_gives():
    variables = torchrun_variables(program_case("torchrun", ranks=4, ranks_per_node=2), ME, {})
    assert (
        variables.items()
        >= {
            "RANK": "3",
            "WORLD_SIZE": "4",
            "LOCAL_RANK": "1",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "1",
            "GROUP_WORLD_SIZE": "2",
            "ROLE_RANK": "3",
            "ROLE_WORLD_SIZE": "4",
            "MASTER_ADDR": "10.0.0.1",
            "MASTER_PORT": "1234",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "OMP_NUM_THREADS": "1",
        }.items()
    )


@pytest.mark.frameworks
def test_torchrun_gives_every_variable_that_torch_s_own_gives(tmp_path):
    (tmp_path / "show.py").write_text("import json, os; print(json.dumps(sorted(os.environ)))")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=1",
        "--master-addr=127.0.0.1",
        "show.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    theirs = set(json.loads(done.stdout.splitlines()[-1])) - set(os.environ) - {"LC_CTYPE", "COLUMNS", "LINES"}
    assert theirs - torchrun_variables(program_case("torchrun", ranks=4), ME, {}).keys() == set()


def test_a_program_finds_its_place_as_under_mpirun_where_srun_has_started_it():
    assert mpi_variables(ME, {"OMPI_COMM_WORLD_RANK": "3"}) == {}
    variables = mpi_variables(ME, {"SLURM_PROCID": "3"})
    assert read_rank_info(variables) == RankInfo(3, 4, 1, 2, "127.0.0.1", 29500)


def test_the_user_s_number_of_threads_stays():
    assert "OMP_NUM_THREADS" not in common_variables(program_case("mpirun"), {"OMP_NUM_THREADS": "7"})
    assert common_variables(program_case("mpirun", threads=3), {})["OMP_NUM_THREADS"] == "3"


def test_a_program_finds_no_gpu_where_cpus_are_measured():
    assert common_variables(program_case("plain"), {})["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in common_variables(program_case("plain", device="cuda"), {})


def test_a_program_that_is_started_by_itself_has_no_variable_of_a_launcher():
    plain = load_backend("plain")
    with plain.program_environment(program_case("plain", ranks=1), ME) as variables:
        assert {name: variables[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")} == {
            "RANK": None,
            "WORLD_SIZE": None,
            "MASTER_ADDR": None,
        }
    assert plain.unsupported_reason(program_case("plain", ranks=2)) is not None
    assert plain.unsupported_reason(program_case("plain", ranks=1)) is None


@pytest.mark.parametrize("name", ["torchrun", "horovodrun", "mpirun", "plain"])
def test_a_launcher_starts_programs_and_has_no_session(name):
    backend = load_backend(name)
    assert backend.starts_programs
    with pytest.raises(NotImplementedError):
        backend.session(program_case(name), ME)


def test_other_backends_start_no_programs():
    assert not load_backend("ddp").starts_programs
    with pytest.raises(NotImplementedError):
        load_backend("ddp").program_environment(program_case("ddp"), ME)
