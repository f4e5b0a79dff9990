from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from io import StringIO
from pathlib import Path

import pytest

from harness.setup.horovod_key import BUILD_FILES, BuildError, BuildKey, Nccl, NoNccl, build_environment
from harness.setup.horovod_wheel import build_wheel, describe_operations, ensure_horovod, find_wheel, linkable_nccl
from tests.support.paths import ROOT

KEY = BuildKey(
    horovod="0.28.1",
    torch="2.13.0+cpu",
    python="cpython-311-x86_64-linux-gnu",
    machine="x86_64",
    compiler="g++ 12",
    open_mpi="5.0.11",
    nccl=None,
    architectures=(),
    recipe="r",
)
NCCL = Nccl(
    include="/n/include", lib="/n/lib", cuda_home="/cuda", versions="nccl 22703, nvcc 13.0", architectures=(80, 90)
)
NO_NCCL = NoNccl("torch is not built with CUDA", "install another", wanted=False)
OTHER = {
    "horovod": "0.29",
    "torch": "2.14.0",
    "python": "cpython-312",
    "machine": "aarch64",
    "compiler": "clang",
    "open_mpi": None,
    "nccl": NCCL.versions,
    "architectures": (90,),
    "recipe": "s",
}


@pytest.mark.parametrize("field", OTHER)
def test_a_wheel_is_kept_under_all_it_depends_on(field, tmp_path):
    other = dataclasses.replace(KEY, **{field: OTHER[field]})
    assert other.name != KEY.name
    (tmp_path / KEY.name).mkdir()
    wheel = tmp_path / KEY.name / "horovod-0.28.1-cp311-linux_x86_64.whl"
    wheel.write_text("")
    assert find_wheel(KEY, tmp_path) == wheel
    assert find_wheel(other, tmp_path) is None


def environment(key, nccl=NO_NCCL):
    base = {"PATH": "/bin", "HOROVOD_GPU": "ROCM", "CXXFLAGS": "-O0", "HOROVOD_BUILD_CUDA_CC_LIST": "35"}
    return build_environment(key, nccl, Path("/w/toolchain.cmake"), Path("/w/tools"), base)


def test_gloo_always_mpi_where_it_is_found():
    env = environment(KEY)
    assert env["HOROVOD_WITH_GLOO"] == env["HOROVOD_WITH_MPI"] == env["HOROVOD_WITH_PYTORCH"] == "1"
    assert env["CMAKE_TOOLCHAIN_FILE"] == "/w/toolchain.cmake"
    assert env["PATH"].startswith("/w/tools/bin")
    assert not {"HOROVOD_GPU", "CXXFLAGS"} & set(env), "what would change the build unnoticed is dropped"
    without = environment(dataclasses.replace(KEY, open_mpi=None))
    assert without["HOROVOD_WITHOUT_MPI"] == "1"
    assert "HOROVOD_WITH_MPI" not in without


def test_nccl_where_torch_nvcc_and_headers_are_there():
    env = environment(dataclasses.replace(KEY, nccl=NCCL.versions), NCCL)
    assert env["HOROVOD_GPU_OPERATIONS"] == "NCCL"
    assert (env["HOROVOD_NCCL_INCLUDE"], env["HOROVOD_NCCL_LIB"]) == ("/n/include", "/n/lib")
    assert env["HOROVOD_CUDA_HOME"] == "/cuda"
    assert env["PATH"].startswith("/cuda/bin:"), "Horovod asks the first nvcc on PATH for its architectures"
    assert env["HOROVOD_BUILD_CUDA_CC_LIST"] == "80,90"
    assert not {"HOROVOD_GPU_OPERATIONS", "HOROVOD_BUILD_CUDA_CC_LIST"} & set(environment(KEY))
    assert "HOROVOD_BUILD_CUDA_CC_LIST" not in environment(KEY, dataclasses.replace(NCCL, architectures=()))


def test_the_registry_s_nccl_is_made_linkable(tmp_path):
    lib, work = tmp_path / "lib", tmp_path / "work"
    lib.mkdir()
    work.mkdir()
    (lib / "libnccl.so.2").write_text("")
    made = linkable_nccl(lib, work)
    assert (made / "libnccl.so").resolve() == lib / "libnccl.so.2"


def test_what_gpu_tensors_will_be_reduced_by_is_said():
    assert describe_operations(NCCL) == "with NCCL (nccl 22703, nvcc 13.0) for architectures 80, 90"
    assert describe_operations(NO_NCCL) == "without NCCL: torch is not built with CUDA"
    missing = NoNccl("CUDA 13.0: crt missing", "run `pip install it`")
    assert describe_operations(missing) == "without NCCL: CUDA 13.0: crt missing; run `pip install it`"


@pytest.mark.frameworks
def test_what_the_build_is_told_of_torch():
    program = BUILD_FILES / "modules" / "find_torch.py.in"
    told = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True).stdout
    settings = dict(re.findall(r'^set\((\w+) "(.*)"\)$', told, re.MULTILINE))
    assert len(settings) == len(told.splitlines()), "all of it is settings of CMake"
    assert settings["Pytorch_VERSION"] == importlib.metadata.version("torch")
    assert any(Path(folder, "ATen", "ATen.h").is_file() for folder in settings["Pytorch_INCLUDE_DIRS"].split(";"))
    assert "torch_python" in settings["pytorch_names"].split(";")


@pytest.mark.frameworks
def test_a_wheel_that_is_not_cached_is_left_to_the_sweep(tmp_path):
    with pytest.raises(BuildError, match=r"^it is not compiled yet$"):
        ensure_horovod(tmp_path, compile_it=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_who_waits_for_the_build_of_another_command_says_so(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom harness.setup.horovod_wheel import build_lock\n"
        "with build_lock(Path(sys.argv[1]), sys.stdout):\n    print('built', flush=True)\n    sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "built\n"
        with subprocess.Popen(command, **pipes) as second:
            waits = f"waiting for another command that builds Horovod (PID {first.pid}, {tmp_path}/building.lock)\n"
            assert second.stdout.readline() == waits
            first.communicate()
            assert second.communicate()[0] == "built\n"


@pytest.mark.slow
def test_a_package_index_that_cannot_be_reached_is_told_as_that(tmp_path, monkeypatch):
    for name, value in (("INDEX_URL", "http://127.0.0.1:9/simple"), ("RETRIES", "0"), ("CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(f"PIP_{name}", value)
    told = r"^pip found no version of cmake==\S+ at all: its package index can't be reached, or lacks it \(whole log: "
    with pytest.raises(BuildError, match=told):
        build_wheel(KEY, NO_NCCL, tmp_path, StringIO())


@pytest.mark.frameworks
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_an_environment_that_cannot_be_written_is_told_before_the_compiler_runs(tmp_path):
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    (packages,) = env.glob("lib/python*/site-packages")
    (packages / "of_tests.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    read_only = f'mount --bind {env} {env} && mount -o remount,ro,bind {env} && exec "$0" "$@"'
    command = ["unshare", "--mount", "sh", "-c", read_only, str(env / "bin" / "python"), "-m"]
    variables = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    program = "harness.setup.horovod_wheel"
    done = subprocess.run([*command, program], capture_output=True, text=True, env=variables, check=False)
    told = f"Horovod was not built: environment {env} can't be written; use one of your own: python -m venv FOLDER\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(told)


@pytest.mark.slow
def test_where_it_cannot_be_built_the_reason_stays_and_the_rest_goes_on(tmp_path):
    """In an environment without torch, and so without anything to build against."""
    env = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    command = [str(env / "bin" / "python"), "-m", "harness.setup.horovod_wheel"]
    variables = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0
    assert "torch is not installed" in done.stdout
    assert "torch is not installed" in (env / "horovod-build.json").read_text()
    strict = subprocess.run([*command, "--strict"], capture_output=True, text=True, env=variables, check=False)
    assert strict.returncode == 1
    # What is installed stays usable where only NCCL can't be had.
    (env / "horovod-build.json").write_text("of before")
    refused = subprocess.run([*command, "--cuda"], capture_output=True, text=True, env=variables, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Horovod with NCCL was not built: torch is not built with CUDA; install a CUDA build of torch\n"
    )
    assert (env / "horovod-build.json").read_text() == "of before"
