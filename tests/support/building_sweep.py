"""A program: the sweep of ``lean.toml``, whose backends ``works`` and ``breaks`` are compiled by ``cc``."""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
from functools import partial
from pathlib import Path
from typing import TextIO

from rich.console import Console

from harness.sweep.beginning import begun_sweep
from harness.sweep.building import Build
from harness.sweep.pipeline import RunSettings, run
from harness.sweep.plan import SuiteRequest, plan_sweep

NAMES = ("works", "breaks")


def is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def compile_module(name: str, out: TextIO) -> None:
    target = Path("modules", f"{name}_exchange{sysconfig.get_config_var('EXT_SUFFIX')}")
    include = f"-I{sysconfig.get_path('include')}"
    command = ["cc", "-shared", "-fPIC", include, "-o", str(target), f"{name}.c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        Path(f"{name}.reason").write_text(next(line for line in done.stderr.splitlines() if "error" in line))
    importlib.invalidate_caches()


def main() -> None:
    modules = {name: f"{name}_exchange" for name in NAMES}
    builds = {
        module: Build(partial(is_missing, module), partial(compile_module, name)) for name, module in modules.items()
    }
    settings = RunSettings("r.sqlite", Console(stderr=True, width=200), builds=builds)
    request = SuiteRequest("lean.toml", plugins=tuple(f"{name}.py" for name in NAMES))
    with begun_sweep(plan_sweep(request)) as sweep:
        print(run(sweep, settings, "a test").info.id)


if __name__ == "__main__":
    main()
