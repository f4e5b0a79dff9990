"""A dry run of thousands of cases: workloads × backends × options × batches × ranks × scalings, on an empty store.

What it takes is measured of the whole command, beside a quarter of the batches: time that grows faster than the number
of cases shows as a ratio above that of the cases.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from tests.perf.whole_command import Ran, harness

LIMIT_S, BATCHES = 1.5, 16
SUITE = """
backends = ["single", "ddp", "fsdp", "horovod"]
workloads = ["synthetic", "mnist"]
ranks = [1, 2, 3, 4, 6]
scaling = ["strong", "weak"]
batch = {batches}
repeats = 5
[options."workload.synthetic"]
hidden = [64, 128, 192, 256, 320, 384, 448, 512, 576]
"""


def suite(folder: Path, batches: int) -> Path:
    file = folder / f"{batches}.toml"
    file.write_text(SUITE.format(batches=[12 * number for number in range(1, batches + 1)]))
    return file


@pytest.fixture
def dry_run(tmp_path):
    def run(batches: int) -> tuple[int, Ran]:
        ran = harness("sweep", suite(tmp_path, batches), "--dry-run", "--store", tmp_path / "results.sqlite")
        assert ran.status == 0
        cases = re.search(r"^([\d,]+) cases", ran.said, re.MULTILINE)
        assert cases is not None
        return int(cases[1].replace(",", "")), ran

    return run


def test_a_plan_of_thousands_of_cases(benchmark, tell, goal, dry_run):
    seen: list[tuple[int, Ran]] = []
    fewer = [dry_run(BATCHES // 4) for _ in range(5)]
    benchmark.pedantic(lambda: seen.append(dry_run(BATCHES)), rounds=5, iterations=1)
    (few, _), (many, _) = fewer[0], seen[0]
    few_s, many_s = (statistics.median(ran.cpu_s for _, ran in runs) for runs in (fewer, seen))
    benchmark.extra_info |= {"cpu_s": [ran.cpu_s for _, ran in seen], "cases": many}
    tell(
        f"{many:,} cases: median {benchmark.stats.stats.median:.2f} s, {many_s:.2f} s of processor "
        f"time, {many_s / few_s:.1f} × that of {few:,} cases, peak "
        f"{max(ran.peak_bytes for _, ran in seen) / 2**20:.0f} MiB"
    )
    goal(f"dry run of {many:,} cases, s", benchmark.stats.stats.data, at_most=LIMIT_S)
