"""Small parts of a rank that need no framework: warm-up, cores, progress, faults, the sampler's probes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from statistics import median

import pytest

from bench.backends.single import BACKEND
from bench.core.case import Fault
from bench.core.telemetry import Device, Header, Sample, Tick, read_recording
from bench.host.resources import cores_of_rank
from bench.plugins.backend import Session
from bench.plugins.workload import Work, Workload
from bench.rank import faults, loop
from bench.rank.clock import half_width
from bench.rank.progress import PHASES, Progress, read_progress
from bench.rank.warmup import has_settled, warm_up
from bench.telemetry.probes.host import RaplEnergy
from bench.telemetry.probes.replay import ReplayProbe
from bench.telemetry.sampler import choose_probes, pause_sampling
from tests.support.builders import make_case


class Alone(Session):
    def largest(self, value):
        return value


def stepping(durations):
    """A step that takes the next of ``durations``, then the last for ever."""
    left = itertools.chain(durations, itertools.repeat(durations[-1]))
    return lambda: time.sleep(next(left))


def test_warm_up_lasts_until_steps_are_alike():
    found = warm_up(stepping([0.12, 0.09, 0.06, 0.06]), Alone(), min_warmup_steps=1)
    assert found.settled
    assert found.steps >= 4
    assert found.step_s == pytest.approx(0.06, rel=0.15)


def test_steps_that_never_settle_are_said():
    restless = stepping([0.05 + 0.04 * (number % 2) for number in range(100)])
    found = warm_up(restless, Alone(), min_warmup_steps=1, max_s=0.4)
    assert not found.settled


def test_a_number_of_steps_is_taken_at_least():
    assert warm_up(lambda: time.sleep(0.051), Alone(), min_warmup_steps=9).steps >= 9


def test_settled_means_two_alike():
    assert has_settled([3.0, 1.0, 1.05])
    assert not has_settled([1.0, 1.0, 1.3])
    assert not has_settled([1.0])


def test_the_window_s_own_interval_is_about_its_mean():
    assert half_width([1.0] * 100) == 0
    assert half_width([1.0] * 19) == float("inf")
    wide = [1.0, 2.0] * 10 + [3.0, 4.0] * 10
    assert half_width(wide) > 0.2
    assert half_width(wide * 10) == pytest.approx(0, abs=1e-9), "ten batches that are all alike"
    assert median(wide) > 1


@pytest.mark.parametrize(
    ("rank", "threads", "usable", "cores"),
    [
        (0, 1, (0, 1), (0,)),
        (1, 1, (0, 1), (1,)),
        (2, 1, (0, 1), (0,)),
        (1, 2, (4, 5, 6, 7), (6, 7)),
        (1, 3, (0, 1, 2, 3), (0, 1, 3)),
        (0, 8, (0, 1), (0, 1)),
    ],
)
def test_each_rank_has_as_many_cores_as_threads(rank, threads, usable, cores):
    assert cores_of_rank(rank, threads, usable) == cores


def test_progress_outlives_its_process(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from bench.rank.progress import Progress\n"
        "mine = Progress(Path(sys.argv[1]), 3); mine.enter('measured step'); step = mine.count_steps(lambda: None)\n"
        "[step() for _ in range(17)]; os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    (found,) = read_progress(tmp_path)
    assert (found.rank, found.description) == (3, "in measured step 17")
    (tmp_path / "progress-4").write_bytes(b"short")
    assert len(read_progress(tmp_path)) == 1


def test_every_phase_reads_as_english():
    mine = Progress()
    said = []
    for phase in PHASES:
        mine.enter(phase)
        said.append(mine.current.description)
    assert said[:3] == ["while joining the other ranks", "while building the workload", "in the verified steps"]
    assert said[-1] == "while leaving"


class Uneven(Workload):
    """Steps of a millisecond and now and then ten."""

    name, summary, kind = "uneven", "", "collective"

    def build(self, case, session):
        work = Counted()
        taken = itertools.count()
        work.step = lambda: time.sleep(0.01 if next(taken) % 7 == 0 else 0.001)
        return work


class Asked(Alone):
    """Counts how often the ranks agreed on something."""

    times = 0

    def largest(self, value):
        self.times += 1
        return value


@pytest.mark.parametrize(("precision", "stretches"), [(None, 0), (1e9, 1), (1e-9, 2)])
def test_the_window_is_stretched_until_it_is_precise_but_not_for_ever(precision, stretches):
    """The ranks agree after each stretch but the last possible, on whether another is needed."""
    case = make_case(ranks=1, precision=precision, window_s=0.2, warmup=8, verify_steps=0, decompose=False)
    asked, plain = Asked(), Asked()
    found = loop.measure(case, BACKEND, Uneven(), asked, loop.RankContext(time.monotonic()))
    loop.measure(
        case.model_copy(update={"precision": None}), BACKEND, Uneven(), plain, loop.RankContext(time.monotonic())
    )
    assert asked.times - plain.times == stretches
    assert len(found.step_s) % (3 if stretches == 2 else 1) == 0
    assert found.settled is None, "a number of warm-up steps was given"
    assert found.window.ended_s - found.window.began_s >= sum(found.step_s)


class Counted(Work):
    amount_per_step = 1

    def step(self):
        return

    def verify(self, steps):
        return (), ()

    def snapshot(self):
        return []


def test_a_fault_strikes_its_rank_in_its_step():
    work, fault = Counted(), Fault(kind="raise", rank=1, step=3)
    spared = faults.with_fault(fault, 0, work, work.step)
    for _ in range(5):
        spared()
    struck = faults.with_fault(fault, 1, work, work.step)
    struck()
    struck()
    with pytest.raises(faults.InjectedFault, match="raise:rank=1,step=3"):
        struck()


def test_a_late_rank_is_late_from_the_step_on():
    work = Counted()
    faults.delay_from_start(Fault(kind="slow", rank=0, ms=200), 0, work)
    assert work.injected_delay_s == 0.2
    later, fault = Counted(), Fault(kind="slow", rank=0, ms=200, step=2)
    faults.delay_from_start(fault, 0, later)
    step = faults.with_fault(fault, 0, later, later.step)
    step()
    assert later.injected_delay_s == 0
    step()
    assert later.injected_delay_s == 0.2


def test_out_of_memory_is_this_process_s_own():
    program = (
        "from bench.rank.faults import inject; from bench.core.case import Fault\n"
        "try: inject(Fault(kind='oom', rank=0))\n"
        "except MemoryError: print('full')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "full\n", done.stderr


def test_package_energy_wraps_around(tmp_path):
    for name, now in (("intel-rapl:0", 900), ("intel-rapl:1", 100), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{now}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000\n")
    energy = RaplEnergy(tmp_path)
    assert energy.read().value == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("400")
    assert energy.read().value == pytest.approx((150 + 300) / 1e6)
    assert RaplEnergy(tmp_path / "none").read().reason == "no RAPL counters on this machine"


def test_the_host_s_own_counters_move():
    (probe,) = choose_probes(make_case())
    before = {reading.name: reading.value for reading in probe.read()}
    deadline = time.process_time() + 0.15
    while time.process_time() < deadline:
        pass
    after = {reading.name: reading.value for reading in probe.read()}
    assert after["cpu_busy_s"] - before["cpu_busy_s"] > 0.05
    assert after["cores"] == len(os.sched_getaffinity(0))


def test_a_recording_is_replayed_in_its_own_time(tmp_path):
    lines = [Header(host="then", source="live", interval_s=0.1, devices=(Device(id="GPU-1", name="X"),))]
    lines += [Tick(at_s=50 + 0.1 * n, readings=(Sample("GPU-1", "power_w", float(n)),)) for n in range(3)]
    (tmp_path / "r.jsonl").write_text("\n".join(line.model_dump_json() for line in lines))
    probe = ReplayProbe(tmp_path / "r.jsonl")
    assert probe.devices[0].id == "GPU-1"
    assert probe.read()[0].value == 0
    time.sleep(0.12)
    assert probe.read()[0].value == 1
    time.sleep(0.3)
    assert probe.read() == [], "it is over"
    missing = ReplayProbe(tmp_path / "none.jsonl")
    assert missing.devices == ()
    assert "No such file" in missing.problems[0]


def test_the_sampler_writes_as_it_goes_and_is_silent_when_asked(tmp_path):
    (tmp_path / "case.json").write_text(make_case().model_dump_json())
    sampler = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench.rank.worker",
            "--case",
            str(tmp_path / "case.json"),
            "--role",
            "sampler",
            "--out",
            str(tmp_path),
        ]
    )

    def ticks():
        return [
            tick.at_s
            for path in tmp_path.glob("telemetry-*")
            for tick in read_recording(path.read_text().splitlines()).ticks
        ]

    deadline = time.monotonic() + 10
    while not (list(tmp_path.glob("telemetry-*")) and len(ticks()) > 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    with pause_sampling(tmp_path):
        began = time.monotonic()
        time.sleep(0.45)
        quiet = time.monotonic()
    time.sleep(0.3)
    sampler.terminate()
    assert sampler.wait(timeout=5) == 0
    assert [at for at in ticks() if began < at < quiet] == []
    assert [at for at in ticks() if at > quiet] != []
