"""A rank that misbehaves spoils its own trial: the cell says what happened, the sweep goes on, disk and memory stay
bounded."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bench.host.logs import MAX_LOG_BYTES
from tests.support.paths import ROOT

PLUGIN = str(ROOT / "tests" / "support" / "plugins" / "misbehaving.py")
SUITE = """
decompose = false
own_cost = false
roofline = false
verify_steps = 0
warmup = 1
"""


def misbehave(harness, *arguments: str) -> dict[str, dict]:
    """The cells of a sweep over the ways to misbehave, by the way."""
    (harness.folder / "suite.toml").write_text(SUITE)
    asked = ("--plugin", PLUGIN, "--workloads", "misbehaving", "--backends", "ddp", "--scaling", "weak", "--ranks", "2")
    done = harness.run("sweep", "suite.toml", *asked, "--repeats", "1", "--steps", "8", "--json", *arguments)
    assert done.returncode == 4, done.stderr
    harness.nothing_left()
    document = json.loads(done.stdout)
    # The title names options that differ from their defaults.
    ways = {cell["title"]: re.search(r"how=(\w+)", cell["title"]) for cell in document["cells"]}
    return {
        match[1] if match else "nothing": cell for match, cell in zip(ways.values(), document["cells"], strict=True)
    }


def logs_of(folder: Path) -> list[Path]:
    return list(folder.glob(".runs/*/*/*.log"))


def test_each_is_named_and_the_sweep_goes_on(harness):
    cells = misbehave(harness, "--set", "misbehaving.how=remove,close,half,print,leave,daemon")
    for how, reason in {
        "remove": r"the trial's folder .* was removed while it ran",
        "close": r"rank 1 was killed by SIG\w+ in measured step 3|rank 1: .*Bad file descriptor",
        "leave": r"rank 1: SystemExit: 0 \(in measured step 3\)",
        "half": r"rank 1 left a record that can't be read: record-1.json is incomplete or damaged",
    }.items():
        assert cells[how]["outcome"] == "failed"
        assert re.search(reason, cells[how]["reason"]), cells[how]["reason"]
    assert cells["print"]["outcome"] == "ok", "the number counts, and says what was printed"
    assert cells["daemon"]["outcome"] == "ok", "it was ended with the trial: nothing is left running"
    assert "left_running" in cells["daemon"]["flags"]
    (noisy,) = [condition for condition in cells["print"]["conditions"] if condition["name"] == "noisy_log"]
    assert re.fullmatch(r"rank 1: \d{3,} MiB of its output were dropped", noisy["seen"])
    assert all(log.stat().st_size <= MAX_LOG_BYTES for log in logs_of(harness.folder))


def test_a_rank_that_fills_the_disk_fails_and_leaves_room_for_the_next_trial(room):
    harness = room("mount -t tmpfs -o size=24m none disk")
    cells = misbehave(harness, "--set", "misbehaving.how=fill,nothing", "--store", "disk/results.sqlite")
    assert cells["nothing"]["outcome"] == "ok"
    assert cells["fill"]["outcome"] == "failed"
    assert "rank 1: OSError: [Errno 28] No space left on device" in cells["fill"]["reason"]
    assert re.search(r"; the disk of \S*disk/\S+ was full", cells["fill"]["reason"])
