"""Agents on hosts that outlive their trials: each is one ssh session, and serves trials until one of them fails."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from bench.host.logs import last_lines
from bench.host.scratch import open_scratch
from bench.node.transfer import TransferReceiver
from bench.node.trial_feed import ENDED_LINE, FedTrial
from harness.sites.hosts.hosts_file import Host
from harness.sites.hosts.session import TAIL_LINES, SshSession

CLOSE_LIMIT_S = 3.0


class KeptAgents:
    """The agents of a site that wait for a trial, by host."""

    def __init__(self) -> None:
        self._waiting: dict[Host, Agent] = {}

    def take(self, host: Host, command: Sequence[str]) -> Agent:
        """The agent of a host, without a trial; ``command`` starts one where none waits."""
        waiting = self._waiting.pop(host, None)
        if waiting is not None and waiting.is_usable:
            return waiting
        if waiting is not None:
            waiting.close(time.monotonic())
        return Agent(host, command, self)

    def put(self, agent: Agent) -> None:
        """Keep an agent for the next trial."""
        self._waiting[agent.host] = agent

    def close(self) -> None:
        """End all that wait."""
        agents = [self._waiting.popitem()[1] for _ in range(len(self._waiting))]
        for agent in agents:
            agent.session.disconnect()
        deadline = time.monotonic() + CLOSE_LIMIT_S
        for agent in agents:
            agent.close(deadline)


class Agent:
    """A running agent, and the trial that it serves.

    Args:
        host: Where it runs.
        command: The argument list of ssh.
        kept: Where it goes when it waits for a trial again.
    """

    def __init__(self, host: Host, command: Sequence[str], kept: KeptAgents) -> None:
        self.host, self.kept = host, kept
        self.part: TrialPart | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="agent-", dir=open_scratch()))
        log = self.folder / f"{host.name}.log"
        self.session = SshSession(host, command, log, messages=(), take=self._take, ended=self._ended)

    def _take(self, line: str) -> bool:
        return self.part is not None and self.part.take(line)

    def _ended(self, session: SshSession) -> None:
        if self.part is not None:
            self.part.session_ended()

    @property
    def is_usable(self) -> bool:
        """Whether it can take a trial, as far as is known here."""
        return not (self.session.ended or self.session.is_stopped or self.session.problem)

    def close(self, deadline: float) -> None:
        """Wait for its end until ``deadline`` of :func:`time.monotonic`, then kill ssh."""
        self.session.close(deadline)
        shutil.rmtree(self.folder, ignore_errors=True)


class TrialPart:
    """What one agent does for one trial. To its job it is what a session is that runs for the trial alone.

    Args:
        agent: It has no trial.
        document: What it is told.
        log: The log in the trial's folder; it is written where the agent does not outlive the trial.
        ended: Called when the part has ended.
    """

    def __init__(self, agent: Agent, document: FedTrial, log: Path, ended: Callable[[TrialPart], None]) -> None:
        self.agent, self.session, self.host, self.title = agent, agent.session, agent.host, log.stem
        self.succeeded: bool | None = None
        """As the agent has answered; ``None``: it has not."""
        self.was_disconnected = False
        self.log = self.session.log
        self._name, self._trial_log, self._on_end = document.name, log, ended
        self._receiver = TransferReceiver(log.parent)
        self._released = False
        agent.part = self
        self.session.send(document.model_dump(mode="json", exclude_defaults=True))
        if self.session.ended:
            # It may have ended just before it was told.
            self.session_ended()

    def take(self, line: str) -> bool:
        """Use a line of the agent's output, if it is one of this trial."""
        word, _, rest = line.rstrip().partition(" ")
        name, _, outcome = rest.rpartition(" ")
        if (word, name) != (ENDED_LINE, self._name):
            return self._receiver.take(line)
        if self.succeeded is None:
            self.succeeded = outcome == "ok"
            self._on_end(self)
        return True

    def session_ended(self) -> None:
        if self.succeeded is None:
            self._on_end(self)

    @property
    def problem(self) -> str:
        return self.session.problem

    @property
    def ended(self) -> bool:
        return self.succeeded is not None or self.session.ended

    @property
    def is_stopped(self) -> bool:
        return not self.ended and self.session.is_stopped

    @property
    def status(self) -> int:
        """As the exit status of a session."""
        return self.session.status if self.succeeded is None else int(not self.succeeded)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.session.process

    def request_end(self) -> None:
        self.session.request_end()

    def disconnect(self) -> None:
        """Give the agent back for the next trial, or end it where it has not ended its part well."""
        if self._released:
            return
        if self.succeeded and self.agent.is_usable:
            self._released, self.agent.part = True, None
            self.agent.kept.put(self.agent)
            return
        self.was_disconnected = self.was_disconnected or not self.ended
        self.session.disconnect()

    def close(self, deadline: float) -> None:
        if self._released:
            return
        self._released = True
        self.session.close(deadline)
        with suppress(OSError):
            shutil.copyfile(self.session.log, self._trial_log)
        self.log = self._trial_log
        shutil.rmtree(self.agent.folder, ignore_errors=True)

    def output_tail(self) -> list[str]:
        return last_lines(self.log, TAIL_LINES)
