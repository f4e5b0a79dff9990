"""Injected faults: on the right rank, in the right step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.core.case import Fault
from bench.plugins.workload import Work
from bench.rank import faults


class EmptyWork(Work):
    amount_per_step = 1

    def step(self):
        return

    def verify(self, steps):
        return (), ()

    def snapshot(self):
        return []


def test_a_fault_occurs_on_its_rank_in_its_step():
    work, fault = EmptyWork(), Fault(kind="raise", rank=1, step=3)
    assert faults.with_fault(fault, 0, work, work.step) == work.step, "the step of another rank has no fault in it"
    step = faults.with_fault(fault, 1, work, work.step)
    step()
    step()
    with pytest.raises(faults.InjectedFault, match="raise:rank=1,step=3"):
        step()
    step()


def test_a_fault_of_step_0_occurs_before_the_rank_joins_the_others():
    fault = Fault(kind="raise", rank=1, step=0)
    faults.inject_at_start(fault, 0)
    faults.inject_at_start(Fault(kind="raise", rank=1, step=1), 1)
    with pytest.raises(faults.InjectedFault, match="raise:rank=1,step=0"):
        faults.inject_at_start(fault, 1)


def test_a_slow_rank_is_delayed_from_the_first_step_on():
    work = EmptyWork()
    faults.delay_from_start(Fault(kind="slow", rank=0, ms=200), 0, work)
    assert work.injected_delay_s == 0.2


def test_a_slow_rank_is_delayed_from_the_named_step_on():
    work, fault = EmptyWork(), Fault(kind="slow", rank=0, ms=200, step=2)
    faults.delay_from_start(fault, 0, work)
    step = faults.with_fault(fault, 0, work, work.step)
    step()
    assert work.injected_delay_s == 0
    step()
    assert work.injected_delay_s == 0.2


@pytest.mark.slow
def test_memory_is_exhausted_in_this_process_alone():
    program = (
        "from bench.rank.faults import inject; from bench.core.case import Fault\n"
        "try: inject(Fault(kind='oom', rank=0))\n"
        "except MemoryError: print('full')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "full\n", done.stderr
