"""A program of a user's as a strict type checker sees it: ``mypy`` checks it with the project, and nothing runs it.

An error that mypy does not find is an ignore that it reports as unused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import harness

run = harness.run("quick", backends=["single", "ddp"], ranks=[1, 2], set={"ddp.bucket_cap_mb": [1, 25]}, window=0.5)
assert_type(run, harness.SweepRun)
assert_type(run.sweep, str)
assert_type(run.exit_code, int)
assert_type(run.page, Path)

store = harness.open_store(Path("results.sqlite"))
assert_type(store, harness.ResultsStore)
frame = store.cells("latest")
trials: Any = store.trials()
store.steps(trials.iloc[0])

try:
    harness.run(progress=print)
except harness.HarnessError as error:
    assert_type(error.exit_code, int)

harness.run(rank=1)  # type: ignore[call-arg]
harness.run(resume="yes")  # type: ignore[arg-type]
harness.open_store(3)  # type: ignore[arg-type]
print(harness.no_such_name)  # type: ignore[attr-defined]
