"""The page of a sweep on the device. About 30 s of device time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support import h200_telemetry
from tests.support.paths import ROOT

SHOWN = ("utilization", "sm_activity", "tensor_activity", "dram_activity", "power", "sm_clock")
"""The readings of a GPU that have figures."""
MAX_PAGE_KB = 900


def swept(folder, *arguments):
    """The JSON of a sweep of one cell and its page."""
    command = (sys.executable, "-m", "harness", "sweep", "--backends", "single", "--workloads", "synthetic")
    options = ("--set", "synthetic.model=mlp", "--batch", "512", "--ranks", "1", "--repeats", "2", "--json")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        (*command, *options, *arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    return document, (folder / ".runs" / document["sweep"] / "report.html").read_text(encoding="utf-8")


def test_page(device, tmp_path, record_figure):
    """Readings of the GPU that a page shows over the window."""
    if device.type == "cuda":
        arguments = ("--device", "cuda", "--window", "4")
    else:
        recording = h200_telemetry.write("launch_bound", tmp_path / "launch_bound.jsonl")
        arguments = ("--device", "cpu", "--window", "2", "--telemetry", f"replay:{recording}")
    document, page = swept(tmp_path, *arguments)
    (cell,) = document["cells"]
    readings = {name: cell["usage"][f"gpu_{name}"] for name in SHOWN}
    reasons = {name: reading["reason"] for name, reading in readings.items() if reading["value"] is None}
    assert all(reasons.values()), "an unknown reading has a reason"
    note = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    known = len(readings) - len(reasons)
    record_figure("readings that are known", known, f"of {len(SHOWN)}", note=note, at_least=len(SHOWN))
    record_figure("size of the page", len(page.encode()) / 1e3, "kB", at_most=MAX_PAGE_KB)
    assert "<h3>Use of the GPU: single</h3>" in page
    assert ("<h3>Host and GPU in a step</h3>" in page) == (device.type == "cuda")
    if device.type == "cuda":
        record_figure("a step: host, until it is launched", 1e3 * cell["host_step"]["value"], "ms")
        record_figure("a step: GPU, its work", 1e3 * cell["device_busy"]["value"], "ms")
        record_figure("a step", 1e3 * cell["step"]["value"], "ms")
