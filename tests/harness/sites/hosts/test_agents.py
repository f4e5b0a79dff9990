"""Agents that outlive their trials; in place of ssh stands a program that answers as an agent does."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from bench.core.case import Case
from bench.core.exit_report import ExitReport, NodeReport
from bench.core.machine import NodeFacts
from bench.node.trial_feed import FedTrial
from harness.sites.hosts.agents import KeptAgents
from harness.sites.hosts.client import SshAccess
from harness.sites.hosts.hosts_file import Host
from harness.sites.hosts.job import HostCommand, SshJob
from tests.support.builders import make_case

pytestmark = pytest.mark.slow

FACTS = NodeFacts(node=0, host="n1", system="Linux", cpu="c", cores=2, memory_bytes=1, gpus=(), python="3", packages={})
REPORT = NodeReport(facts=FACTS, exit_report=ExitReport(timed_out=False, timeout_s=9)).model_dump_json()
AGENT = f"""
import base64, json, os, signal, sys, zlib
packed = base64.b85encode(zlib.compress({REPORT!r}.encode())).decode()
for line in sys.stdin:
    if line == "end\\n":
        sys.exit(0)
    name = json.loads(line)["name"]
    print("process", os.getpid(), file=sys.stderr, flush=True)
    if name == "killed":
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print("scaling-transfer", json.dumps({{"file": "node-0.json", "packed": packed}}))
    print("scaling-ended", name, "failed" if name == "failed" else "ok", flush=True)
    if name == "failed":
        sys.exit(1)
"""
N1 = Host(name="n1")


@pytest.fixture
def agents():
    kept = KeptAgents()
    yield kept
    kept.close()


class Trials:
    """Trials on one host, one after another."""

    def __init__(self, folder: Path, agents: KeptAgents) -> None:
        self.folder, self.agents = folder, agents

    def start(self, name: str, case: Case | None = None) -> SshJob:
        folder = self.folder / name
        folder.mkdir()
        command = HostCommand("agent-0", 0, N1, [sys.executable, "-c", AGENT], FedTrial(name=name, out="/x"))
        return SshJob(case or make_case(ranks=1, site="hosts"), folder, [command], "", SshAccess(), None, self.agents)

    def pid(self, job: SshJob) -> int:
        return job.nodes[0].process.pid


def test_one_agent_serves_trials_until_one_fails(tmp_path, agents):
    trials = Trials(tmp_path, agents)
    pids = {}
    for name in ("a", "b", "failed", "c"):
        job = trials.start(name)
        job.wait(30)
        job.cancel()  # as after an interrupt that came late: what serves another trial is left alone
        pids[name] = trials.pid(job)
        assert (tmp_path / name / "node-0.json").read_text() == REPORT
    assert pids["a"] == pids["b"] == pids["failed"] != pids["c"]
    # That of a trial that went well is not of interest.
    assert [path.parent.name for path in tmp_path.glob("*/agent-0.log")] == ["failed"]
    os.kill(pids["c"], 0)
    agents.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pids["c"], 0)


def test_an_agent_that_dies_is_the_reason_of_its_trial_and_the_next_one_has_another(tmp_path, agents):
    trials = Trials(tmp_path, agents)
    before = trials.start("a")
    before.wait(30)
    job = trials.start("killed")
    result = job.wait(30)
    assert trials.pid(job) == trials.pid(before)
    assert result.outcome == "failed"
    assert result.reason == "node 0 (n1) is gone: its agent ended with status -9 (last words)"
    assert "last words" in (tmp_path / "killed" / "agent-0.log").read_text()
    after = trials.start("b")
    after.wait(30)
    assert trials.pid(after) != trials.pid(job)
    assert (tmp_path / "b" / "node-0.json").exists()


def test_an_agent_that_dies_or_is_stopped_between_trials_costs_none(tmp_path, agents):
    trials = Trials(tmp_path, agents)
    for number, by in enumerate((signal.SIGKILL, signal.SIGSTOP)):
        idle = trials.start(f"{number}-before")
        idle.wait(30)
        os.kill(trials.pid(idle), by)
        session = idle.nodes[0].session
        while not (session.ended or session.is_stopped):
            time.sleep(0.01)
        next_one = trials.start(f"{number}-after")
        next_one.wait(30)
        assert trials.pid(next_one) != trials.pid(idle)
        assert (tmp_path / f"{number}-after" / "node-0.json").exists()


def test_a_trial_that_is_cancelled_ends_its_agent(tmp_path, agents):
    trials = Trials(tmp_path, agents)
    job = trials.start("silent")
    job.cancel()
    assert job.nodes[0].ended
    after = trials.start("after")
    after.wait(30)
    assert trials.pid(after) != trials.pid(job)
