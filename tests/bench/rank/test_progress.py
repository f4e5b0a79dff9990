"""The progress of a rank, as other processes read it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from bench.rank.progress import PHASES, Progress, freeze_progress, keep_error, read_progress


@pytest.mark.slow
def test_progress_outlives_its_process(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from bench.rank.progress import Progress\n"
        "progress = Progress(Path(sys.argv[1]), 3); progress.enter('measured step')\n"
        "step = progress.count_steps(lambda: None)\n"
        "[step() for _ in range(17)]; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (progress,) = read_progress(tmp_path)
    assert (progress.rank, progress.description) == (3, "in measured step 17")


def test_an_error_is_kept_where_the_disk_takes_no_other_file(tmp_path):
    progress = Progress(tmp_path, 1)
    progress.enter("measured step")
    size = (tmp_path / "progress-1").stat().st_blocks
    keep_error(tmp_path, 1, "OSError: [Errno 28] é" + "x" * 10_000)
    (read,) = read_progress(tmp_path)
    assert read.error.startswith("OSError: [Errno 28] é")
    assert read.phase == "measured step"
    assert (tmp_path / "progress-1").stat().st_blocks == size > 0


def test_frozen_progress_stays_as_it_was(tmp_path):
    progress = Progress(tmp_path, 1)
    progress.enter("measured step")
    freeze_progress(tmp_path)
    progress.enter("leaving")
    assert [rank.phase for rank in read_progress(tmp_path)] == ["measured step"]


def test_a_file_that_is_no_progress_is_ignored(tmp_path):
    Progress(tmp_path, 1)
    (tmp_path / "progress-4").write_bytes(b"short")
    (tmp_path / "progress-x").write_bytes(bytes(40))
    assert [progress.rank for progress in read_progress(tmp_path)] == [1]


def test_a_phase_starts_its_steps_at_0():
    progress = Progress()
    progress.enter("warm-up step")
    progress.count_steps(lambda: None)()
    assert progress.current.description == "in warm-up step 1"
    progress.enter("measured step")
    assert progress.current.description == "in measured step 0"


def test_every_phase_reads_as_english():
    progress, descriptions = Progress(), []
    for phase in PHASES:
        progress.enter(phase)
        descriptions.append(progress.current.description)
    assert descriptions == [
        "while joining the other ranks",
        "while building the workload",
        "while starting the program",
        "in the verified steps",
        "in the reference of the verified steps",
        "in warm-up step 0",
        "in measured step 0",
        "in the further measurements",
        "in the decomposition",
        "while leaving",
    ]


def test_the_end_of_a_step_is_the_beginning_of_the_next():
    progress = Progress()
    progress.enter("warm-up step", step=2)
    progress.step_ended(3_000_000)
    assert progress.current.description == "in warm-up step 3"
    assert progress.current.last_step_s == 0.003
