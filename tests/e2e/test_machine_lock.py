"""Two sweeps of one machine at once: one at a time runs a trial, or they share it and say so."""

from __future__ import annotations

import signal
from datetime import datetime, timedelta

import pytest

from bench.host.lock_folder import FOLDER_VARIABLE
from bench.host.machine_lock import MachineLock
from harness.store.opening import open_store
from tests.support.machine_lock import process_with_lock

FEW = ("--backends", "single", "--workloads", "synthetic", "--ranks", "1", "--set", "workload.synthetic.model=toy")


@pytest.fixture
def folder(harness, tmp_path):
    """The folder of the machine lock of a harness, which no other test uses."""
    harness.env[FOLDER_VARIABLE] = str(tmp_path / "lock")
    return tmp_path / "lock"


def test_trials_of_two_sweeps_at_once_never_overlap(harness, folder):
    sweep = ("sweep", harness.lean(), *FEW, "--window", "0.2", "--repeats", "3", "--json")
    processes = [harness.start(*sweep, "--store", f"{name}.sqlite") for name in ("one", "other")]
    for process in processes:
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    times = []
    for name in ("one", "other"):
        store = open_store(str(harness.folder / f"{name}.sqlite"), create=False)
        for trial in store.trials(store.sweep_id("latest")):
            assert "shared_machine" not in [condition.name for condition in trial.conditions]
            begins = datetime.fromisoformat(trial.started_at)
            times.append((begins, begins + timedelta(seconds=trial.wall_s)))
        store.close()
    assert len(times) == 6
    for (_, ends), (begins, _) in zip(sorted(times), sorted(times)[1:], strict=False):
        assert ends <= begins + timedelta(milliseconds=1), "times are stored to the millisecond"
    assert list(folder.iterdir()) == []


def test_a_sweep_that_waits_says_for_whom_and_is_interrupted_at_once(harness, folder):
    with process_with_lock(folder):
        process = harness.start("sweep", harness.lean(), *FEW)
        line = next(line for line in process.stderr if "waiting since" in line)
        assert "for sweep of somebody" in line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    harness.nothing_left()


def test_sweeps_that_share_are_flagged(harness, folder):
    with MachineLock("sweep of somebody", (), folder=folder) as lock:
        held = lock.acquire()
        document = harness.lean_sweep(*FEW, "--shared")
        held.release()
    assert "shared_machine" in document["cells"][0]["flags"]
    with MachineLock("sweep of somebody", (), shared=True, folder=folder):
        document = harness.lean_sweep(*FEW)
    assert "shared_machine" in document["cells"][0]["flags"]
    assert "shared_machine" not in harness.lean_sweep(*FEW)["cells"][0]["flags"]
