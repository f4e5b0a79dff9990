"""Which CUDA compiler Horovod is built with, and what is made of the tree of the registry's packages."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.host.installation import read_horovod_build
from harness.setup.cuda_toolkit import (
    PARTS,
    NoToolkit,
    Toolkit,
    choose_architectures,
    find_architectures,
    find_toolkit,
    link_toolkit,
    registry_tree,
)
from harness.setup.doctor import cuda_compiler_diagnostic
from harness.setup.horovod_key import Nccl, NoNccl, find_nccl, find_nccl_library

NOWHERE = Path("/nonexistent")


def compiler(folder: Path, version: str) -> Path:
    """A program that answers as nvcc does."""
    folder.mkdir(parents=True, exist_ok=True)
    nvcc = folder / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --list-gpu-code ] && echo "sm_80\nsm_90\nsm_90a\nsm_120" && exit\n'
        f'echo "Cuda compilation tools, release {version.rpartition(".")[0]}, V{version}"\n'
    )
    nvcc.chmod(0o755)
    return nvcc


@pytest.fixture
def site_packages(tmp_path):
    """The files by which the packages of CUDA 13.0 are recognised, and their libraries."""
    tree = registry_tree(tmp_path, "13.0")
    for files in PARTS.values():
        (tree / files[0]).parent.mkdir(parents=True, exist_ok=True)
        (tree / files[0]).write_text("")
    compiler(tree / "bin", "13.0.88")
    (tree / "lib" / "libcudart.so.13").write_text("runtime")
    return tmp_path


def find(site_packages: Path, cuda: str = "13.0", env: dict[str, str] | None = None, system: Path = NOWHERE):
    return find_toolkit(site_packages, cuda, {"PATH": "/nonexistent", **(env or {})}, system)


@pytest.mark.slow
def test_the_packages_beside_torch_are_the_compiler(site_packages, tmp_path):
    other = compiler(tmp_path / "other" / "bin", "13.5.1")
    found = find(site_packages, env={"PATH": str(other.parent), "CUDA_HOME": str(other.parents[1])})
    assert found == Toolkit(site_packages / "nvidia" / "cu13", "13.0.88")


@pytest.mark.slow
def test_a_compiler_that_can_t_be_asked_is_none(site_packages, tmp_path):
    """One that prints no text, and a home whose links lead in a circle."""
    nvcc = registry_tree(site_packages, "13.0") / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\nprintf '\\377\\376'\n")
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    found = find(site_packages, env={"CUDA_HOME": str(circle)})
    assert found.problem == "torch is built with CUDA 13.0, and nvcc beside it is not to be run"


@pytest.mark.parametrize("part", PARTS)
def test_each_missing_part_is_named_with_the_packages_of_torchs_version(part, site_packages):
    for file in PARTS[part]:
        (registry_tree(site_packages, "13.0") / file).unlink(missing_ok=True)
    found = find(site_packages)
    assert isinstance(found, NoToolkit)
    assert found.problem == f"CUDA 13.0: {part} missing"
    assert f'"cuda-toolkit[{part}]==13.0.*"' in found.remedy


def test_without_any_all_parts_are_named(tmp_path):
    found = find(tmp_path)
    assert found.problem == "CUDA 13.0: nvcc, nvvm, crt, cccl, cudart missing"
    assert '"cuda-toolkit[nvcc,nvvm,crt,cccl,cudart]==13.0.*"' in found.remedy
    assert "CUDA toolkit 12.8" in find(tmp_path, "12.8").remedy, "packages of CUDA 12 lie in a tree each"


@pytest.mark.slow
def test_a_compiler_of_another_version_beside_torch_is_refused(site_packages):
    compiler(registry_tree(site_packages, "13.0") / "bin", "13.5.37")
    found = find(site_packages)
    assert found.problem == "torch is built with CUDA 13.0, and nvcc beside it is 13.5.37"
    assert "==13.0.*" in found.remedy


@pytest.mark.slow
@pytest.mark.parametrize("where", ["CUDA_HOME", "PATH", "system"])
def test_an_installed_toolkit_of_torchs_major_version_will_do(where, tmp_path):
    home = compiler(tmp_path / "cuda-13.1" / "bin", "13.1.80").parents[1]
    (home / "include").mkdir()
    (home / "include" / "cuda_runtime.h").write_text("")
    link = tmp_path / "link" / "nvcc"
    link.parent.mkdir()
    link.symlink_to(home / "bin" / "nvcc")
    places = {"CUDA_HOME": {"CUDA_HOME": str(home)}, "PATH": {"PATH": str(link.parent)}, "system": {}}
    found = find(tmp_path, env=places[where], system=home if where == "system" else NOWHERE)
    assert found == Toolkit(home, "13.1.80")
    assert isinstance(find(tmp_path, "12.8", env={"CUDA_HOME": str(home)}), NoToolkit)
    script = compiler(tmp_path / "scripts" / "bin", "13.1.80")
    assert isinstance(find(tmp_path, env={"PATH": str(script.parent)}), NoToolkit), "no headers beside it"


def test_the_names_that_the_packages_lack_are_made_outside_of_them(site_packages, tmp_path):
    tree = registry_tree(site_packages, "13.0")
    before = sorted(tree.rglob("*"))
    home = link_toolkit(tree, tmp_path / "work" / "cuda")
    assert home == tmp_path / "work" / "cuda"
    assert (home / "lib64" / "libcudart.so").read_text() == "runtime"
    assert (home / "lib64" / "libcudadevrt.a").exists()
    assert (home / "lib" / "libcudart.so").exists()
    assert not (home / "bin").is_symlink(), "nvcc takes the folder above its own for the toolkit"
    assert all((home / file).exists() for file in ("bin/nvcc", "nvvm/bin/cicc", "include/nv/target"))
    assert sorted(tree.rglob("*")) == before
    assert link_toolkit(home, tmp_path / "again") == home, "a complete one is used as it is"


def test_a_toolkit_of_the_system_is_used_as_it_is(tmp_path):
    """Debian's has nvcc in /usr/bin and libraries in /usr/lib/x86_64-linux-gnu, which the linker knows."""
    compiler(tmp_path / "usr" / "bin", "13.0.88")
    assert link_toolkit(tmp_path / "usr", tmp_path / "work") == tmp_path / "usr"


@pytest.mark.parametrize(
    ("wished", "present", "of_torch", "expected"),
    [
        (None, [90], ["sm_75", "sm_80"], (90,)),
        (None, [90, 80, 90], [], (80, 90)),
        (None, [], ["sm_80", "sm_90a", "compute_120", "sm_35"], (80, 90)),
        (None, [130], ["sm_80"], (120,)),
        (None, [], [], (120,)),
        ("120, 80,80", [90], [], (80, 120)),
    ],
)
def test_device_code_is_made_for_the_gpus_here_else_for_those_of_torch(wished, present, of_torch, expected):
    assert choose_architectures(wished, present, of_torch, [80, 90, 120]) == expected


def test_where_the_compiler_does_not_list_what_it_knows_nothing_is_left_out():
    assert choose_architectures(None, [], ["sm_80", "sm_90"], []) == (80, 90)
    assert choose_architectures(None, [], [], []) == ()


@pytest.mark.slow
def test_architectures_that_the_compiler_does_not_know_are_refused_in_one_line(tmp_path):
    nvcc = compiler(tmp_path, "13.0.88")
    assert find_architectures(nvcc, "80,90") == (80, 90)
    with pytest.raises(ValueError, match=r"90a, 35: .* such as 80,90; this nvcc knows 80, 90, 120$"):
        find_architectures(nvcc, "80,90a,35")


def test_nccl_is_its_header_and_its_library(tmp_path):
    root = tmp_path / "nvidia" / "nccl"
    (root / "include").mkdir(parents=True)
    (root / "lib").mkdir()
    (root / "lib" / "libnccl.so.2").write_text("")
    assert find_nccl_library([root]) is None
    (root / "include" / "nccl.h").write_text("#define NCCL_VERSION_CODE 22907\n")
    assert find_nccl_library([tmp_path, root]) == (root / "include", root / "lib", "22907")


def test_doctor_names_what_is_missing_and_how_to_install_it():
    there = cuda_compiler_diagnostic(Nccl("/n/include", "/n/lib", "/cuda", "nccl 22907, nvcc 13.0.88"))
    assert (there.status, there.found) == ("ok", "nccl 22907, nvcc 13.0.88 (/cuda)")
    missing = cuda_compiler_diagnostic(NoNccl("CUDA 13.0: cccl missing", "run `pip install x`"))
    assert (missing.status, missing.found) == ("missing", "CUDA 13.0: cccl missing")
    assert missing.remedy.startswith("run `pip install x`, then `python -m harness.setup.horovod_wheel")
    on_cpus = cuda_compiler_diagnostic(NoNccl("torch is not built with CUDA", "…", wanted=False))
    assert (on_cpus.status, on_cpus.remedy) == ("ok", None)


def skip_without_compiler() -> Nccl:
    nccl = find_nccl()
    if isinstance(nccl, NoNccl):
        pytest.skip(f"{nccl.problem}: {nccl.remedy}")
    return nccl


@pytest.mark.frameworks
def test_the_real_compiler_works_in_the_linked_tree(tmp_path):
    home = link_toolkit(Path(skip_without_compiler().cuda_home), tmp_path / "cuda")
    (tmp_path / "kernel.cu").write_text(
        "#include <cuda_fp16.h>\n#include <nv/target>\n"
        "__global__ void kernel(__half *x) { *x = __float2half(1.0f); }\n"
        "int main() { kernel<<<1, 1>>>(nullptr); return 0; }\n"
    )
    for runtime in ("static", "shared"):
        command = [str(home / "bin" / "nvcc"), "-cudart", runtime, "-arch=sm_90", "kernel.cu", "-o", runtime]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.frameworks
def test_horovod_is_built_with_nccl_where_a_compiler_is_there():
    """It answers on a machine without a GPU too: NCCL's version, a number."""
    skip_without_compiler()
    if find_spec("horovod") is None:
        pytest.skip("Horovod is not installed: python -m harness.setup.horovod_wheel --cuda")
    build = read_horovod_build()
    assert build is not None
    assert build.nccl, build
    import horovod.torch as hvd

    assert hvd.nccl_built() >= 20000
