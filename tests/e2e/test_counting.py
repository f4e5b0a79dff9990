"""Sweeps of a workload of one's own that counts whatever it likes: no trial is lost, whatever that is."""

from __future__ import annotations

import re

from tests.support.paths import ROOT

PLUGIN = str(ROOT / "tests" / "support" / "plugins" / "counting.py")
UNCOUNTED = {"0": "0.0", "nan": "nan", "huge": "1000", "missing": "None"}


def test_a_trial_that_counts_nothing_has_failed_and_any_unit_is_counted(harness):
    asked = ("--plugin", PLUGIN, "--workloads", "counting", "--backends", "single", "--steps", "5", "--repeats", "1")
    counted = f"counting.amount=8,decimal,{','.join(UNCOUNTED)}"
    document = harness.lean_sweep(*asked, "--set", counted, "--set", "counting.further=objects", status=4)
    harness.nothing_left()
    amounts = [re.search(r"amount=(\w+)", cell["title"]) for cell in document["cells"]]
    cells = {match[1] if match else "8": cell for match, cell in zip(amounts, document["cells"], strict=True)}
    for amount, shown in UNCOUNTED.items():
        assert cells[amount]["outcome"] == "failed"
        assert f"the workload's amount_per_step is {shown}" in cells[amount]["reason"]
    for amount in ("8", "decimal"):
        assert cells[amount]["outcome"] == "ok"
        assert cells[amount]["throughput"]["unit"] == "tokens/s"
    exported = harness.run("export")
    assert sum(",tokens," in row for row in exported.stdout.splitlines()) == 2
    checked = harness.run("check")
    assert checked.returncode == 4, checked.stderr
