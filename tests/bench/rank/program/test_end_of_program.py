"""How a program is stopped after its window, and what it may do meanwhile, in processes of their own."""

from __future__ import annotations

import pytest

from tests.support.ended_processes import ends_within
from tests.support.programs import program_case, run_ranks

pytestmark = pytest.mark.slow

LOOP = """
from torch.optim import SGD
from torch.utils.data import DataLoader

class Batch:
    shape, dtype = (4, 2), "torch.float32"

optimizer = SGD()
loader = DataLoader([Batch()] * 10)

def train(epochs=1000):
    for epoch in range(epochs):
        for batch in loader:
            optimizer.step()
"""


def run_one(tmp_path, text, **changes):
    (rank,) = run_ranks(program_case(LOOP + text, tmp_path, **changes), tmp_path)
    return rank


def test_a_program_is_stopped_after_its_window(tmp_path):
    rank = run_one(tmp_path, "\ntrain()\nprint('not reached')\n")
    assert rank.status == 0, rank.output
    run = rank.record.program
    assert (run.ended, run.exit_status, run.exit_problem) == ("stopped", None, None)
    assert (run.counted, run.amount_per_step, rank.record.unit) == ("DataLoader", 4.0, "samples")
    assert rank.record.warmup_steps + len(rank.record.step_s) == run.steps
    assert "not reached" not in rank.output


def test_a_given_number_of_steps_is_the_window_on_all_ranks(tmp_path):
    ranks = run_ranks(program_case(LOOP + "\ntrain()\n", tmp_path, ranks=2, steps=7, warmup=3), tmp_path)
    assert [(rank.record.warmup_steps, len(rank.record.step_s), rank.record.program.steps) for rank in ranks] == [
        (3, 7, 10),
        (3, 7, 10),
    ]


def test_ranks_in_step_with_each_other_agree_on_a_window_of_time(tmp_path):
    in_step = """
import os
from pathlib import Path
import time
rank, folder = int(os.environ["RANK"]), Path("steps")
folder.mkdir(exist_ok=True)

def exchange(step):
    (folder / f"{rank}-{step}").touch()
    while not (folder / f"{1 - rank}-{step}").exists():
        time.sleep(0.0001)

for step in range(100_000):
    batch = next(iter(loader))
    exchange(step)
    optimizer.step()
"""
    ranks = run_ranks(program_case(LOOP + in_step, tmp_path, ranks=2), tmp_path)
    first, second = (rank.record for rank in ranks)
    assert (first.warmup_steps, len(first.step_s)) == (second.warmup_steps, len(second.step_s))
    assert first.program.steps == second.program.steps
    assert first.settled == second.settled


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    train()\nexcept Exception:\n    print('swallowed')\n",
        "try:\n    train()\nexcept:\n    print('caught')\n",
        "try:\n    train()\nfinally:\n    print('finally ran', flush=True)\n",
    ],
)
def test_a_program_that_catches_what_stops_it_ends_too(tmp_path, text):
    rank = run_one(tmp_path, text)
    assert rank.status == 0, rank.output
    assert rank.record.program.ended == "stopped"
    assert rank.record.program.exit_problem is None
    assert "swallowed" not in rank.output
    assert ("finally ran" in rank.output) == ("finally" in text)


def test_a_program_that_goes_on_training_after_system_exit_is_ended(tmp_path):
    rank = run_one(tmp_path, "\nwhile True:\n    try:\n        train()\n    except BaseException:\n        pass\n")
    assert rank.status == 0, rank.output
    assert rank.record.program.exit_problem == "it went on after SystemExit"


def test_exit_handlers_and_threads_run_within_a_limit(tmp_path):
    text = """
import atexit, threading, time
atexit.register(print, "handler ran", flush=True)
threading.Thread(target=lambda: (time.sleep(0.3), print("thread ended", flush=True))).start()
train()
"""
    rank = run_one(tmp_path, text)
    assert rank.output.index("thread ended") < rank.output.index("handler ran")


def test_a_program_whose_exit_hangs_is_ended_with_its_children(tmp_path):
    text = """
import atexit, subprocess, time
child = subprocess.Popen(["sleep", "600"])
open("child", "w").write(str(child.pid))
atexit.register(time.sleep, 600)
train()
"""
    rank = run_one(tmp_path, text)
    assert rank.status == 0, rank.output
    assert "did not end within" in rank.record.program.exit_problem
    assert rank.took_s < 40
    child = int((tmp_path / "child").read_text())
    assert ends_within(child, 0)


def test_a_checkpoint_that_is_being_saved_is_whole(tmp_path):
    text = """
import threading, torch
for step in range(100_000):
    batch = next(iter(loader))
    optimizer.step()
    if step == 13:
        threading.Thread(target=torch.save, args=(None, "checkpoint", 1.0), daemon=True).start()
"""
    rank = run_one(tmp_path, text, steps=5, warmup=10)
    assert rank.status == 0, rank.output
    assert (tmp_path / "checkpoint").read_text() == "half and half"


def test_what_a_program_has_started_ends_with_it(tmp_path):
    text = """
import multiprocessing, time
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    worker = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)
    worker.start()
    open("child", "w").write(str(worker.pid))
    train()
"""
    rank = run_one(tmp_path, text)
    assert rank.status == 0, rank.output
    assert ends_within(int((tmp_path / "child").read_text()), 5)


def test_a_whole_program_ends_by_itself(tmp_path):
    text = """
import torch
for epoch in range(4):
    train(1)
    torch.save(None, "checkpoint", 0.05)
train(1)
print("reached the end")
"""
    rank = run_one(tmp_path, text, options={"whole": True})
    run = rank.record.program
    assert "reached the end" in rank.output
    assert (run.ended, run.exit_status, run.steps, run.checkpoints) == ("by itself", 0, 50, 4)
    assert run.checkpoint_s >= 4 * 0.05
    readings = {reading.name: reading for reading in rank.record.readings}
    assert readings["time_to_end"].value > run.stepping_s + run.checkpoint_s > run.checkpoint_s
    assert readings["goodput"].value == pytest.approx(run.stepping_s / run.wall_s)
    assert readings["checkpoint_pauses"].value == run.checkpoint_s


def test_a_whole_program_that_ends_at_once_leaves_its_record(tmp_path):
    rank = run_one(tmp_path, "\nimport os\ntrain(5)\nos._exit(0)\n", options={"whole": True})
    assert rank.status == 0
    assert rank.record.program.steps == 50


def test_a_program_may_change_where_it_is(tmp_path):
    rank = run_one(tmp_path, "\nimport os\nos.chdir('/')\ntrain()\n", steps=5)
    assert rank.record.program.ended == "stopped"


def test_stacks_are_dumped_whatever_a_program_makes_of_the_signal(tmp_path):
    text = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: print("its own handler", flush=True))
sys.stderr.close()
train(1)
os.kill(os.getpid(), signal.SIGUSR1)
train()
"""
    rank = run_one(tmp_path, text, steps=20)
    assert rank.status == 0, rank.output
    assert "(most recent call first)" in rank.output
    assert "its own handler" in rank.output


def test_whole_programs_have_the_window_that_is_given(tmp_path):
    rank = run_one(tmp_path, "\ntrain(5)\n", steps=20, options={"whole": True})
    assert (rank.record.warmup_steps, len(rank.record.step_s), rank.record.program.steps) == (10, 20, 50)
